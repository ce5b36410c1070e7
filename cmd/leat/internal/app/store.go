package app

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/cmd/leat/internal/topic"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// reading are the flags of get and scan.
type reading struct {
	a              *access
	keyAs, valueAs string
	staleness      time.Duration
	since, until   string
	from, to       string
	limit          int
}

func (o *reading) flags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringVar(&o.keyAs, "key-as", "", "string, int, long, double, hex, base64 or avro (default: as the topology keeps them)")
	f.StringVar(&o.valueAs, "value-as", "", "the same for values, and json")
	f.DurationVar(&o.staleness, "staleness", 0, "let standbys answer that have everything which was committed so long ago")
	f.StringVar(&o.since, "since", "@0", "of windows and sessions: the earliest start, or end of a session, @TIME")
	f.StringVar(&o.until, "until", "@now", "and the latest")
	o.a.env.RegistryFlags(cmd)
	return cmd
}

func newGet(a *access) *cobra.Command {
	o := &reading{a: a}
	return o.flags(&cobra.Command{
		Use:   "get APP STORE KEY",
		Short: "Print the row of a key, or its windows or sessions",
		Example: `  leat app store get shop stock 4711
  leat app store get shop sold-by-country DE --since @-1h`,
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: a.names(),
		RunE: a.on(func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error) {
			res, n, err := o.read(ctx, cl, r, args, &args[2])
			if err == nil && n == 0 {
				err = fmt.Errorf("store %q has no row of key %q", args[1], args[2])
			}
			return res, err
		}),
	})
}

func newScan(a *access) *cobra.Command {
	o := &reading{a: a}
	cmd := o.flags(&cobra.Command{
		Use:   "scan APP STORE",
		Short: "Print rows, in the order of their keys, of windows and sessions in that of time",
		Example: `  leat app store scan shop stock --limit 20
  leat app store scan shop stock --from a --to b --format tsv`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.names(),
		RunE: a.on(func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error) {
			res, n, err := o.read(ctx, cl, r, args, nil)
			if err == nil && n == o.limit && !a.env.Quiet() {
				fmt.Fprintf(a.env.Err, "note: the first %d rows; --limit has more\n", n)
			}
			return res, err
		}),
	})
	cmd.Flags().StringVar(&o.from, "from", "", "the first key, of key-value stores")
	cmd.Flags().StringVar(&o.to, "to", "", "the last key")
	cmd.Flags().IntVarP(&o.limit, "limit", "n", 100, "rows, 0 for all")
	return cmd
}

// entries are rows in encoded bytes. Start and End are zero in key-value stores.
type entries = iter.Seq2[streams.Entry[streams.Windowed[[]byte], []byte], error]

func (o *reading) read(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string, key *string) (*cli.Result, int, error) {
	instances, err := answering(ctx, cl, r, args[0], false)
	if err != nil {
		return nil, 0, err
	}
	var names []string
	for _, k := range instances {
		for _, st := range k.Stores {
			if st.Name == args[1] {
				return o.print(ctx, r, storeOf{st.Name, st.Kind, st.Key, st.Value, st.Size}, key)
			}
			names = append(names, st.Name)
		}
	}
	return nil, 0, cli.NotFound("store", args[1], names, nil)
}

// storeOf is what matters of a store here.
type storeOf struct {
	name, kind, key, value string
	size                   time.Duration
}

func (o *reading) print(ctx context.Context, r *streams.Remote, st storeOf, key *string) (*cli.Result, int, error) {
	keyOf, err := topic.Decode(o.a.env, decoderOf(o.keyAs, st.key))
	if err != nil {
		return nil, 0, err
	}
	valueOf, err := topic.Decode(o.a.env, decoderOf(o.valueAs, st.value))
	if err != nil {
		return nil, 0, err
	}
	rows, err := o.rows(ctx, r, st, key)
	if err != nil {
		return nil, 0, err
	}
	res := new(cli.Result)
	timed := st.kind != "key-value"
	columns := []string{"KEY", "VALUE", "TIME"}
	if timed {
		columns = []string{"KEY", "START", "END", "VALUE", "TIME"}
	}
	table := res.Table("rows", columns...)
	for e, err := range rows {
		if err != nil {
			return nil, 0, err
		}
		k, err := keyOf(ctx, e.Key.Key)
		if err != nil {
			return nil, 0, fmt.Errorf("decode a key: %w (--key-as says otherwise)", err)
		}
		v, err := valueOf(ctx, e.Value)
		if err != nil {
			return nil, 0, fmt.Errorf("decode a value: %w (--value-as says otherwise)", err)
		}
		if text, ok := v.(string); ok && (st.value == "json" && o.valueAs == "" || o.valueAs == "json") && json.Valid([]byte(text)) {
			v = json.RawMessage(text)
		}
		if timed {
			table.Row(k, e.Key.Start, e.Key.End, v, e.Time)
		} else {
			table.Row(k, v, e.Time)
		}
		if table.Len() == o.limit {
			break
		}
	}
	return res, table.Len(), nil
}

// rows asks for what the flags say.
func (o *reading) rows(ctx context.Context, r *streams.Remote, st storeOf, key *string) (entries, error) {
	now := time.Now()
	since, err := cli.ParseTime(strings.TrimPrefix(o.since, "@"), now)
	if err != nil {
		return nil, err
	}
	until, err := cli.ParseTime(strings.TrimPrefix(o.until, "@"), now)
	if err != nil {
		return nil, err
	}
	encode := func(s string) ([]byte, error) { return encodeKey(o.keyAs, st.key, s) }
	var k []byte
	if key != nil {
		if k, err = encode(*key); err != nil {
			return nil, err
		}
	}
	how := streams.Reading{Staleness: o.staleness}
	switch st.kind {
	case "window":
		v, err := r.WindowView(streams.WindowStore[[]byte, []byte]{Name: st.name, Size: st.size, Key: serde.Bytes, Value: serde.Bytes})
		if err != nil {
			return nil, err
		}
		if v = v.Reading(ctx, how); key != nil {
			return v.Fetch(k, since, until), nil
		}
		return v.Range(since, until), nil
	case "session":
		v, err := r.SessionView(streams.SessionStore[[]byte, []byte]{Name: st.name, Key: serde.Bytes, Value: serde.Bytes})
		if err != nil {
			return nil, err
		}
		if v = v.Reading(ctx, how); key != nil {
			return v.Sessions(k, since, until), nil
		}
		return v.Range(since, until), nil
	case "key-value":
	default:
		return nil, fmt.Errorf("store %q is a %s store, which is not read yet", st.name, st.kind)
	}
	v, err := r.View(streams.Store[[]byte, []byte]{Name: st.name, Key: serde.Bytes, Value: serde.Bytes})
	if err != nil {
		return nil, err
	}
	v = v.Reading(ctx, how)
	if key != nil {
		return one(v.Get(k)), nil
	}
	var from, to *[]byte
	for _, end := range []struct {
		text string
		at   **[]byte
	}{{o.from, &from}, {o.to, &to}} {
		if end.text != "" {
			b, err := encode(end.text)
			if err != nil {
				return nil, err
			}
			*end.at = &b
		}
	}
	return plain(v.Range(from, to)), nil
}

// plain are the rows of a key-value store.
func plain(rows iter.Seq2[streams.Entry[[]byte, []byte], error]) entries {
	return func(yield func(streams.Entry[streams.Windowed[[]byte], []byte], error) bool) {
		for e, err := range rows {
			if !yield(streams.Entry[streams.Windowed[[]byte], []byte]{Key: streams.Windowed[[]byte]{Key: e.Key}, Value: e.Value, Time: e.Time}, err) || err != nil {
				return
			}
		}
	}
}

func one(e streams.Entry[[]byte, []byte], ok bool, err error) entries {
	return plain(func(yield func(streams.Entry[[]byte, []byte], error) bool) {
		if ok || err != nil {
			yield(e, err)
		}
	})
}

// decoderOf is the decoder of a format: the given one, or that of the store's serde.
func decoderOf(given, format string) string {
	switch {
	case given != "" && given != "json":
		return given
	case format == "avro":
		return "avro"
	case format == "int64", format == "uint64", format == "time":
		return "long"
	case format == "int32", format == "uint32":
		return "int"
	case format == "float64":
		return "double"
	}
	return "auto"
}

// encodeKey makes a key's bytes of what was typed.
func encodeKey(given, format, s string) (b []byte, err error) {
	as := decoderOf(given, format)
	switch as {
	case "long":
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, cli.Usagef("key %q: the store's keys are numbers: %v", s, err)
		}
		return binary.BigEndian.AppendUint64(nil, uint64(n)), nil
	case "int":
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return nil, cli.Usagef("key %q: the store's keys are numbers: %v", s, err)
		}
		return binary.BigEndian.AppendUint32(nil, uint32(n)), nil
	case "double":
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, cli.Usagef("key %q: the store's keys are numbers: %v", s, err)
		}
		return binary.BigEndian.AppendUint64(nil, math.Float64bits(n)), nil
	case "hex":
		b, err = hex.DecodeString(s)
	case "base64":
		b, err = base64.StdEncoding.DecodeString(s)
	case "avro":
		return nil, cli.Usagef("keys in Avro cannot be typed: give the bytes, with --key-as hex")
	default:
		if !slices.Contains([]string{"auto", "string"}, as) {
			return nil, cli.Usagef("--key-as %q: want string, int, long, double, hex, base64 or avro", as)
		}
		b = []byte(s)
	}
	if err != nil {
		return nil, cli.Usagef("key %q: %v", s, err)
	}
	return b, nil
}
