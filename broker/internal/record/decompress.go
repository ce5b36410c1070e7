package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// DefaultMaxDecompressedBytes is the limit of a Decompressor that sets none.
const DefaultMaxDecompressedBytes = 64 << 20

// Decompressor decompresses the records of batches and keeps the codecs' states for the next time. The zero value is
// ready; it is safe for several goroutines and must not be copied.
type Decompressor struct {
	// MaxBytes is the most that one batch may become. Zero or less means DefaultMaxDecompressedBytes.
	MaxBytes int

	gzips, lz4s, zstds sync.Pool
}

func (d *Decompressor) limit() int {
	if d.MaxBytes > 0 {
		return d.MaxBytes
	}
	return DefaultMaxDecompressedBytes
}

// Decompress returns the records behind a compressed payload in memory of their own. Memory grows with what comes out,
// never with what a header claims. Errors: ErrCorrupt, ErrTooLarge, ErrCodec.
func (d *Decompressor) Decompress(c Codec, src []byte) ([]byte, error) {
	var out []byte
	var err error
	switch c {
	case None:
		return src, nil
	case Gzip:
		out, err = d.gunzip(src)
	case Snappy:
		out, err = d.snappy(src)
	case LZ4:
		out, err = d.unlz4(src)
	case Zstd:
		out, err = d.unzstd(src)
	default:
		return nil, fmt.Errorf("%w: %d", ErrCodec, c)
	}
	if err != nil && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return out, err
}

func (d *Decompressor) gunzip(src []byte) ([]byte, error) {
	in := bytes.NewReader(src)
	z, _ := d.gzips.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer d.gzips.Put(z)
	if err := z.Reset(in); err != nil {
		return nil, err
	}
	return d.readAll(z, len(src))
}

func (d *Decompressor) unlz4(src []byte) ([]byte, error) {
	in := bytes.NewReader(src)
	z, _ := d.lz4s.Get().(*lz4.Reader)
	if z == nil {
		z = lz4.NewReader(in)
	} else {
		z.Reset(in)
	}
	defer d.lz4s.Put(z)
	return d.readAll(z, len(src))
}

// readAll reads up to the limit, beginning with a guess from the compressed size.
func (d *Decompressor) readAll(r io.Reader, srcLen int) ([]byte, error) {
	limit := d.limit()
	out := make([]byte, 0, min(limit, 4*srcLen+512))
	for {
		if len(out) == cap(out) {
			out = append(out, 0)[:len(out)]
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if len(out) > limit {
			return nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, limit)
		}
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (d *Decompressor) unzstd(src []byte) ([]byte, error) {
	z, _ := d.zstds.Get().(*zstd.Decoder)
	if z == nil {
		var err error
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(d.limit())))
		if err != nil {
			return nil, err
		}
	}
	defer d.zstds.Put(z)
	out, err := z.DecodeAll(src, make([]byte, 0, min(d.limit(), 4*len(src)+512)))
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || len(out) > d.limit() {
		return nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, d.limit())
	}
	return out, err
}

// xerialMagic begins the framing of snappy-java, which Java clients (and others after them) use; librdkafka sends raw
// blocks.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

func (d *Decompressor) snappy(src []byte) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return d.snappyBlock(nil, src)
	}
	if len(src) < 16 {
		return nil, ErrCorrupt
	}
	var out []byte
	for rest := src[16:]; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, ErrCorrupt
		}
		n := int64(int32(binary.BigEndian.Uint32(rest)))
		rest = rest[4:]
		if n < 0 || n > int64(len(rest)) {
			return nil, ErrCorrupt
		}
		var err error
		if out, err = d.snappyBlock(out, rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return out, nil
}

// snappyBlock appends one decompressed block to dst.
func (d *Decompressor) snappyBlock(dst, src []byte) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return nil, err
	}
	if n > d.limit()-len(dst) {
		return nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, d.limit())
	}
	// Snappy expands at most 64 bytes from 3: a claim beyond that is a lie, told before anything is allocated.
	if n > 64+32*len(src) {
		return nil, ErrCorrupt
	}
	block, err := s2.Decode(make([]byte, n), src)
	if err != nil {
		return nil, err
	}
	if dst == nil {
		return block, nil
	}
	return append(dst, block...), nil
}
