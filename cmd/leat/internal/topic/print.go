package topic

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// printing are the flags that say how records are shown.
type printing struct {
	template             string
	print                []string
	verbose              bool
	nullMarker           string
	keyDecode, valDecode string
}

func (p *printing) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.template, "output", "f", "", `how text is formatted, for example '%p %o %k %v\n'`)
	f.StringSliceVar(&p.print, "print", []string{"key", "value"}, "what text shows, in this order: key, value, partition, offset, timestamp, headers, topic")
	f.BoolVarP(&p.verbose, "verbose", "v", false, "text shows partition, offset, timestamp, key, value and headers")
	f.StringVar(&p.nullMarker, "null-marker", "NULL", "how text shows null")
	p.decodeFlags(cmd)
}

func (p *printing) decodeFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.keyDecode, "key-decode", "auto", "auto, string, hex, base64, int, long, double or avro (through --registry)")
	f.StringVar(&p.valDecode, "value-decode", "auto", "the same for values")
	for _, name := range []string{"key-decode", "value-decode"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(decodings, cobra.ShellCompDirectiveNoFileComp))
	}
}

var fields = map[string]string{"key": "%k", "value": "%v", "partition": "%p", "offset": "%o", "timestamp": "%d", "headers": "%h", "topic": "%t"}

// printFunc prints one record.
type printFunc = func(ctx context.Context, r *kgo.Record) error

// printer makes the function that prints a record.
func (p *printing) printer(env *cli.Env, out *bufio.Writer) (printFunc, error) {
	decode, err := p.decoder(env)
	if err != nil {
		return nil, err
	}
	if env.Format() == "json" {
		return func(ctx context.Context, r *kgo.Record) error { return printJSON(ctx, out, decode, r) }, nil
	}
	template := p.template
	switch {
	case env.Format() == "tsv":
		template = "%p\t%o\t%T\t%k\t%v\t%h\n"
	case p.verbose:
		template = "%p\t%o\t%d\t%k\t%v\t%h\n"
	case template == "":
		var parts []string
		for _, name := range p.print {
			if fields[name] == "" {
				return nil, cli.Usagef("--print %q: want key, value, partition, offset, timestamp, headers or topic", name)
			}
			parts = append(parts, fields[name])
		}
		template = strings.Join(parts, "\t") + "\n"
	}
	pieces, err := parseTemplate(template)
	if err != nil {
		return nil, err
	}
	escape := func(s string) string { return s }
	if env.Format() == "tsv" {
		escape = cli.EscapeTSV
	}
	return func(ctx context.Context, r *kgo.Record) error {
		key, err := decode.key.decode(ctx, r.Key)
		if err != nil {
			return recordError("key", r, err)
		}
		value, err := decode.value.decode(ctx, r.Value)
		if err != nil {
			return recordError("value", r, err)
		}
		for _, piece := range pieces {
			if _, err := out.WriteString(p.piece(piece, r, key, value, escape)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func recordError(part string, r *kgo.Record, err error) error {
	return fmt.Errorf("%s of %s partition %d offset %d: %w", part, r.Topic, r.Partition, r.Offset, err)
}

// parseTemplate splits a template into texts and % letters.
func parseTemplate(s string) ([]string, error) {
	s = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\0`, "\x00", `\\`, `\`).Replace(s)
	var pieces []string
	for {
		text, rest, ok := strings.Cut(s, "%")
		if text != "" {
			pieces = append(pieces, text)
		}
		if !ok {
			return pieces, nil
		}
		if rest == "" || !strings.Contains("kvhtpoTdKS%", rest[:1]) {
			return nil, cli.Usagef("--output: %%%.1s is not one of %%k %%v %%h %%t %%p %%o %%T %%d %%K %%S %%%%", rest)
		}
		pieces = append(pieces, "%"+rest[:1])
		s = rest[1:]
	}
}

// piece is what stands for one piece of the template.
func (p *printing) piece(piece string, r *kgo.Record, key, value payload, escape func(string) string) string {
	switch piece {
	case "%k":
		return escape(key.text(p.nullMarker))
	case "%v":
		return escape(value.text(p.nullMarker))
	case "%h":
		var all []string
		for _, h := range r.Headers {
			all = append(all, h.Key+"="+asText(h.Value))
		}
		return escape(strings.Join(all, ","))
	case "%t":
		return r.Topic
	case "%p":
		return strconv.Itoa(int(r.Partition))
	case "%o":
		return strconv.FormatInt(r.Offset, 10)
	case "%T":
		return strconv.FormatInt(r.Timestamp.UnixMilli(), 10)
	case "%d":
		return r.Timestamp.UTC().Format("2006-01-02T15:04:05.000Z")
	case "%K":
		return strconv.Itoa(len(r.Key))
	case "%S":
		return strconv.Itoa(len(r.Value))
	case "%%":
		return "%"
	}
	return piece
}

// recordJSON is a line of consume --format json. An encoding says that bytes that are no text are in base64.
type recordJSON struct {
	Topic         string       `json:"topic"`
	Partition     int32        `json:"partition"`
	Offset        int64        `json:"offset"`
	Timestamp     time.Time    `json:"timestamp"`
	Key           any          `json:"key"`
	KeyEncoding   string       `json:"key_encoding,omitempty"`
	Value         any          `json:"value"`
	ValueEncoding string       `json:"value_encoding,omitempty"`
	Headers       []headerJSON `json:"headers"`
}

type headerJSON struct {
	Key   string  `json:"key"`
	Value *string `json:"value"`
}

func printJSON(ctx context.Context, out *bufio.Writer, decode decoders, r *kgo.Record) error {
	key, err := decode.key.decode(ctx, r.Key)
	if err != nil {
		return recordError("key", r, err)
	}
	value, err := decode.value.decode(ctx, r.Value)
	if err != nil {
		return recordError("value", r, err)
	}
	line := recordJSON{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC(),
		Key: key.json, KeyEncoding: key.encoding, Value: value.json, ValueEncoding: value.encoding, Headers: []headerJSON{}}
	for _, h := range r.Headers {
		header := headerJSON{Key: h.Key}
		if h.Value != nil {
			text := asText(h.Value)
			header.Value = &text
		}
		line.Headers = append(line.Headers, header)
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(line)
}

// decodings are the names of --key-decode and --value-decode.
var decodings = []string{"auto", "string", "hex", "base64", "int", "long", "double", "avro"}

// decoders decode keys and values.
type decoders struct{ key, value decoder }

func (p *printing) decoder(env *cli.Env) (decoders, error) {
	for flag, name := range map[string]string{"--key-decode": p.keyDecode, "--value-decode": p.valDecode} {
		if !slices.Contains(decodings, name) {
			return decoders{}, cli.Usagef("%s %q: want %s", flag, name, strings.Join(decodings, ", "))
		}
	}
	_, given := env.RegistryURL()
	registry, err := env.Registry()
	if err != nil {
		return decoders{}, err
	}
	schemas := &schemaCache{env: env, registry: registry}
	return decoders{decoder{p.keyDecode, given, schemas}, decoder{p.valDecode, given, schemas}}, nil
}
