package avro

import (
	"fmt"
	"slices"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/avro"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/avsc"
	"github.com/leatstream/leat/registry/internal/wire"
	"github.com/leatstream/leat/serde"
)

// Generic is the serde of records whose schema is known at run time only, as goavro represents them: a record is a
// map[string]any, a value of a union that is not null is a map of one entry from the branch's name to the value, int is
// int32, long is int64, bytes and fixed are []byte, an enum is its symbol.
//
// schema is what is written, and the form that everything read is brought into: records of other versions are resolved to
// it. Empty means that records are read as they were written, and that nothing can be written.
func Generic(reg *registry.Client, schema string, o ...Options) serde.Serde[map[string]any] {
	s := new(generic)
	options := first(o)
	options.Schema = schema
	s.init(reg, options, engine[genericReading, *goavro.Codec]{s.reader, s.writer}, nil)
	if options.Header {
		return &genericHeaders{s}
	}
	return s
}

// generic is the serde of maps, on goavro.
type generic struct {
	base[genericReading, *goavro.Codec]
}

// writer compiles a schema to write maps with.
func (s *generic) writer(of *avsc.Schema) (*goavro.Codec, error) {
	if of.Kind != avsc.Record {
		return nil, fmt.Errorf("%w: it is of type %s, and must be a record", ErrSchema, of.Kind)
	}
	c, err := goavro.NewCodec(of.Full())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return c, nil
}

// genericReading is how data of one writer's schema becomes a map. goavro cannot resolve schemas: where writer and reader
// differ, twmb/avro resolves and writes the data anew in the reader's form, and goavro reads that.
type genericReading struct {
	writer   *avsc.Schema // what the data is checked against: goavro trusts the counts in it
	resolved *avro.Schema // nil if the data is read as it is
	codec    *goavro.Codec
}

func (s *generic) reader(writer *avsc.Schema) (genericReading, error) {
	r := genericReading{writer: writer, codec: s.Write}
	if writer.Kind != avsc.Record {
		return r, fmt.Errorf("%w: it is of type %s, and a map needs a record", ErrUnreadable, writer.Kind)
	}
	var err error
	if s.schema == nil {
		if r.codec, err = goavro.NewCodec(writer.Full()); err != nil {
			return r, fmt.Errorf("%w: the writer's schema: %w", ErrUnreadable, err)
		}
		return r, nil
	}
	if writer.Text() == s.text {
		return r, nil
	}
	if err := readable(s.schema, writer); err != nil {
		return r, err
	}
	w, err := avro.Parse(writer.Full())
	if err != nil {
		return r, fmt.Errorf("%w: the writer's schema: %w", ErrUnreadable, err)
	}
	own, err := avro.Parse(s.schema.Full())
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if r.resolved, err = avro.Resolve(w, own); err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return r, nil
}

// Append implements [serde.Serde].
func (s *generic) Append(dst []byte, at serde.Place, v map[string]any) ([]byte, error) {
	w, err := s.Writer(at)
	if err != nil {
		return nil, err
	}
	return encodeMap(w.AppendPrefix(dst), at, w, v)
}

func encodeMap(dst []byte, at serde.Place, w *wire.Written[*goavro.Codec], v map[string]any) ([]byte, error) {
	dst, err := w.With.BinaryFromNative(dst, v)
	if err != nil {
		return nil, fmt.Errorf("%w: encode the %s: %w", ErrData, at, err)
	}
	return dst, nil
}

// genericHeaders names the schemas of what it writes in headers.
type genericHeaders struct{ *generic }

// AppendWithHeaders implements [serde.HeaderEncoder].
func (s *genericHeaders) AppendWithHeaders(dst []byte, at serde.Place, headers *[]serde.Header, v map[string]any) ([]byte, error) {
	w, err := s.Writer(at)
	if err != nil {
		return nil, err
	}
	w.SetHeader(at, headers, nil)
	return encodeMap(dst, at, w, v)
}

// Decode implements [serde.Serde].
func (s *generic) Decode(at serde.Place, data []byte) (map[string]any, error) {
	r, err := s.Read(at, data)
	if err != nil {
		return nil, err
	}
	return decodeMap(at, &r)
}

// DecodeWithHeaders implements [serde.HeaderDecoder].
func (s *generic) DecodeWithHeaders(at serde.Place, headers []serde.Header, data []byte) (map[string]any, error) {
	r, err := s.ReadHeaders(at, headers, data)
	if err != nil {
		return nil, err
	}
	return decodeMap(at, &r)
}

func decodeMap(at serde.Place, r *wire.Reading[genericReading]) (map[string]any, error) {
	v, err := r.With.decode(r.Payload)
	if err != nil {
		return nil, r.Wrap(at, err)
	}
	return v, nil
}

func (r genericReading) decode(payload []byte) (map[string]any, error) {
	if err := r.writer.Check(payload); err != nil {
		return nil, err
	}
	if r.resolved != nil {
		var v any
		if _, err := r.resolved.Decode(payload, &v, avro.TaggedUnions()); err != nil {
			return nil, err
		}
		var err error
		if payload, err = r.resolved.Encode(v); err != nil {
			return nil, fmt.Errorf("bring it into the reader's form: %w", err)
		}
	} else {
		payload = slices.Clone(payload) // goavro's bytes point into what it reads
	}
	v, _, err := r.codec.NativeFromBinary(payload)
	if err != nil {
		return nil, err
	}
	record, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it is a %T, not a record", v)
	}
	return record, nil
}
