package topic

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// payload is a decoded key or value.
type payload struct {
	// json is nil for null, a string, a number, or raw JSON.
	json any
	// encoding is "base64" where json is a string that holds bytes.
	encoding string
}

// text is the payload for people.
func (p payload) text(null string) string {
	switch v := p.json.(type) {
	case nil:
		return null
	case string:
		return v
	case json.RawMessage:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}

// Cell is the payload in a table.
func (p payload) Cell() any { return p.json }

// asText shows bytes as they are if they are text, else in base64.
func asText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// decoder decodes keys or values.
type decoder struct {
	name string
	// registry says that the user named one: then auto may ask it.
	registry bool
	schemas  *schemaCache
}

func (d decoder) decode(ctx context.Context, b []byte) (payload, error) {
	if b == nil {
		return payload{}, nil
	}
	fixed := func(n int) error {
		if len(b) != n {
			return fmt.Errorf("%d bytes are no %s: that has %d", len(b), d.name, n)
		}
		return nil
	}
	switch d.name {
	case "hex":
		return payload{json: hex.EncodeToString(b)}, nil
	case "base64":
		return payload{json: base64.StdEncoding.EncodeToString(b)}, nil
	case "int":
		if err := fixed(4); err != nil {
			return payload{}, err
		}
		return payload{json: int32(binary.BigEndian.Uint32(b))}, nil
	case "long":
		if err := fixed(8); err != nil {
			return payload{}, err
		}
		return payload{json: int64(binary.BigEndian.Uint64(b))}, nil
	case "double":
		if err := fixed(8); err != nil {
			return payload{}, err
		}
		return payload{json: math.Float64frombits(binary.BigEndian.Uint64(b))}, nil
	case "avro":
		return d.schemas.decode(ctx, b)
	case "auto":
		if d.registry && framed(b) {
			return d.schemas.decode(ctx, b)
		}
		if !utf8.Valid(b) {
			return payload{base64.StdEncoding.EncodeToString(b), "base64"}, nil
		}
	}
	return payload{json: string(b)}, nil
}

// framed reports whether b may begin with the registry's header: a zero byte and the schema's id in four.
func framed(b []byte) bool { return len(b) >= 5 && b[0] == 0 }

// schemaCache has the schemas of ids that were seen, parsed. Not safe for concurrent use.
type schemaCache struct {
	env      *cli.Env
	registry *sr.Client
	byID     map[int]*avro.Schema
}

func (c *schemaCache) decode(ctx context.Context, b []byte) (payload, error) {
	if !framed(b) {
		return payload{}, fmt.Errorf("%d bytes without the registry's header (a zero byte and the schema's id): it was not written with a registry's serializer", len(b))
	}
	id := int(binary.BigEndian.Uint32(b[1:5]))
	schema := c.byID[id]
	if schema == nil {
		definition, err := c.registry.SchemaByID(ctx, id)
		if err != nil {
			return payload{}, fmt.Errorf("schema %d: %w", id, c.env.RegistryError(err))
		}
		if schema, err = c.parse(ctx, definition); err != nil {
			return payload{}, fmt.Errorf("schema %d: %w", id, err)
		}
		if c.byID == nil {
			c.byID = map[int]*avro.Schema{}
		}
		c.byID[id] = schema
	}
	var v any
	rest, err := schema.Decode(b[5:], &v, avro.TaggedUnions())
	if err != nil {
		return payload{}, fmt.Errorf("decode with schema %d: %w", id, err)
	}
	if len(rest) > 0 {
		return payload{}, fmt.Errorf("decode with schema %d: %d bytes are left over", id, len(rest))
	}
	text, err := schema.EncodeJSON(v)
	return payload{json: json.RawMessage(text)}, err
}

// parse parses a schema after those that it refers to.
func (c *schemaCache) parse(ctx context.Context, s sr.Schema) (*avro.Schema, error) {
	if s.Type != sr.TypeAvro {
		return nil, fmt.Errorf("is %s, and only Avro is decoded", s.Type)
	}
	var parsed avro.SchemaCache
	if err := c.references(ctx, &parsed, s, map[string]bool{}); err != nil {
		return nil, err
	}
	return parsed.Parse(s.Schema)
}

func (c *schemaCache) references(ctx context.Context, parsed *avro.SchemaCache, s sr.Schema, seen map[string]bool) error {
	for _, ref := range s.References {
		key := ref.Subject + ":" + strconv.Itoa(ref.Version)
		if seen[key] {
			continue
		}
		seen[key] = true
		of, err := c.registry.SchemaByVersion(ctx, ref.Subject, ref.Version)
		if err != nil {
			return fmt.Errorf("reference %s: %w", key, err)
		}
		if err := c.references(ctx, parsed, of.Schema, seen); err != nil {
			return err
		}
		if _, err := parsed.Parse(of.Schema.Schema); err != nil {
			return fmt.Errorf("reference %s: %w", key, err)
		}
	}
	return nil
}

// encoders make the bytes of keys and values from what was typed.
type encoders struct {
	key, value func([]byte) ([]byte, error)
}

func newEncoders(ctx context.Context, env *cli.Env, keySchema, valueSchema string) (encoders, error) {
	key, err := newEncoder(ctx, env, keySchema)
	if err != nil {
		return encoders{}, fmt.Errorf("--key-schema %s: %w", keySchema, err)
	}
	value, err := newEncoder(ctx, env, valueSchema)
	if err != nil {
		return encoders{}, fmt.Errorf("--value-schema %s: %w", valueSchema, err)
	}
	return encoders{key, value}, nil
}

// newEncoder makes Avro of JSON with the schema of a subject, SUBJECT or SUBJECT:VERSION. Without a subject text is taken as it is.
func newEncoder(ctx context.Context, env *cli.Env, subject string) (func([]byte) ([]byte, error), error) {
	if subject == "" {
		return func(text []byte) ([]byte, error) { return text, nil }, nil
	}
	version := -1
	if i := strings.LastIndexByte(subject, ':'); i > 0 {
		if n, err := strconv.Atoi(subject[i+1:]); err == nil {
			subject, version = subject[:i], n
		}
	}
	registry, err := env.Registry()
	if err != nil {
		return nil, err
	}
	found, err := registry.SchemaByVersion(ctx, subject, version)
	if err != nil {
		return nil, env.RegistryError(err)
	}
	schemas := &schemaCache{env: env, registry: registry}
	schema, err := schemas.parse(ctx, found.Schema)
	if err != nil {
		return nil, err
	}
	return func(text []byte) ([]byte, error) {
		if text == nil {
			return nil, nil
		}
		var v any
		if err := schema.DecodeJSON(text, &v, avro.TaggedUnions()); err != nil {
			return nil, err
		}
		header := binary.BigEndian.AppendUint32([]byte{0}, uint32(found.ID))
		return schema.AppendEncode(header, v)
	}, nil
}

// Decode makes a function that decodes keys or values for other commands: name is auto, string, int, long, double, hex, base64
// or avro. What it returns is a cell of a table.
func Decode(env *cli.Env, name string) (func(ctx context.Context, b []byte) (any, error), error) {
	_, given := env.RegistryURL()
	registry, err := env.Registry()
	if err != nil {
		return nil, err
	}
	d := decoder{name, given, &schemaCache{env: env, registry: registry}}
	return func(ctx context.Context, b []byte) (any, error) {
		p, err := d.decode(ctx, b)
		return p.json, err
	}, nil
}
