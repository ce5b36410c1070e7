package broker

import (
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field that can be set: two elements per list, text, numbers that look like counts, tagged fields.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			tags.Set(99, []byte("unknown"))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("bytes"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.String:
		v.SetString("text")
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(0x55)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// The schemas agree with the encoder for every flexible version of every row: full and empty requests pass to the last byte, and
// no shorter frame does.
func TestSchemasFitEveryFlexibleVersion(t *testing.T) {
	table := routes()
	for _, row := range table {
		if row == nil || row.raw {
			continue
		}
		for v := row.acceptMin; v <= row.max; v++ {
			empty := kmsg.RequestForKey(row.key)
			empty.SetVersion(v)
			if !empty.IsFlexible() {
				continue
			}
			if row.schema == nil {
				t.Errorf("API %d version %d is flexible and has no schema", row.key, v)
				break
			}
			full := kmsg.RequestForKey(row.key)
			full.SetVersion(v)
			fill(reflect.ValueOf(full).Elem())
			full.SetVersion(v)
			for _, req := range []kmsg.Request{empty, full} {
				body := req.AppendTo(nil)
				if err := row.schema.Check(body, v); err != nil {
					t.Errorf("API %d version %d: %v", row.key, v, err)
				}
				if err := row.schema.Check(append(body, 0), v); err != nil {
					t.Errorf("API %d version %d with a byte more: %v", row.key, v, err)
				}
				for n := range body {
					if row.schema.Check(body[:n], v) == nil {
						t.Errorf("API %d version %d passes with %d of %d bytes", row.key, v, n, len(body))
						break
					}
				}
			}
		}
	}
}

func TestHugeTagCountsCostNoTime(t *testing.T) {
	b := start(t, nil)
	began := time.Now()
	for _, row := range b.routes {
		if row == nil {
			continue
		}
		r := dialRaw(t, b)
		req := kmsg.RequestForKey(row.key)
		req.SetVersion(row.max)
		if !req.IsFlexible() {
			continue
		}
		frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
		frame = append(frame[:len(frame)-1], 0xff, 0xff, 0xff, 0xff, 0x0f)
		frame[3] = byte(len(frame) - 4)
		if _, err := r.nc.Write(frame); err != nil {
			t.Fatal(err)
		}
		if !r.closed() {
			t.Errorf("API %d: the connection goes on", row.key)
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Fatalf("took %v", took)
	}
}
