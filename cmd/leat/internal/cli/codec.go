package cli

import "github.com/twmb/franz-go/pkg/kgo"

// Codec is the compression with this name.
func Codec(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.NoCompression(), Usagef("--compression %q: want none, gzip, snappy, lz4 or zstd", name)
}
