package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/leatstream/leat/broker/dump"
	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

func newDumpLog(env *cli.Env) *cobra.Command {
	var records bool
	cmd := &cobra.Command{
		Use:   "dump-log (FILE.log | DIR)...",
		Short: "Print the record batches in the files of a partition's log",
		Long: `Prints each batch of segment files (.log), or of all segments in a partition's directory, and with --records each record. Works on
the files of Leat and of Apache Kafka, without a broker. JSON prints one object a line, keys and values in base64. Exit code 1 if a file is damaged.`,
		Example: `  leat broker dump-log .leat/broker/orders-0
  leat broker dump-log .leat/broker/orders-0/00000000000000000000.log --records --format json
  # Kafka: kafka-dump-log.sh --deep-iteration --print-data-log --files 00000000000000000000.log`,
		Args: cobra.MinimumNArgs(1),
		RunE: env.Action(func(cmd *cobra.Command, args []string) (*cli.Result, error) {
			out := bufio.NewWriter(env.Out)
			var errs []error
			for _, arg := range args {
				files, err := segments(arg)
				errs = append(errs, err)
				for _, path := range files {
					errs = append(errs, dumpFile(out, env.Format(), path, records))
				}
			}
			return nil, errors.Join(append(errs, out.Flush())...)
		}),
	}
	cmd.Flags().BoolVar(&records, "records", false, "print records, too")
	return env.FormatFlags(cmd)
}

// segments are the segment files of a directory, or the file itself.
func segments(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, nil // opening it says what is wrong
	}
	files, err := filepath.Glob(filepath.Join(path, "*.log"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: no segment files (*.log) in it; a partition's directory is DATA/TOPIC-PARTITION", path)
	}
	slices.Sort(files)
	return files, err
}

func dumpFile(out *bufio.Writer, format, path string, records bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	print := dumpText
	switch format {
	case "json":
		print = dumpJSON
	case "tsv":
		print = dumpTSV
	default:
		fmt.Fprintf(out, "%s\n", path)
	}
	damaged := 0
	err = dump.Segment(f, records, func(b dump.Batch) error {
		if !b.CRCValid {
			damaged++
		}
		return print(out, path, b)
	})
	if err == nil && damaged > 0 {
		err = fmt.Errorf("%d batches have a wrong checksum", damaged)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func dumpText(out *bufio.Writer, _ string, b dump.Batch) error {
	fmt.Fprintf(out, "baseOffset: %d lastOffset: %d count: %d baseSequence: %d lastSequence: %d producerId: %d producerEpoch: %d partitionLeaderEpoch: %d "+
		"isTransactional: %t isControl: %t deleteHorizonMs: %d position: %d maxTimestamp: %d size: %d compresscodec: %s crc: %d isvalid: %t",
		b.BaseOffset, b.LastOffset, b.Count, b.BaseSequence, b.LastSequence, b.ProducerID, b.ProducerEpoch, b.LeaderEpoch,
		b.Transactional, b.Control, b.DeleteHorizon, b.Position, b.MaxTimestamp, b.Size, b.Compression, b.CRC, b.CRCValid)
	if b.Marker != "" {
		fmt.Fprintf(out, " endTxnMarker: %s", b.Marker)
	}
	fmt.Fprintln(out)
	for _, r := range b.Records {
		fmt.Fprintf(out, "| offset: %d timestamp: %d key: %s payload: %s\n", r.Offset, r.Timestamp, orNull(r.Key), orNull(r.Value))
	}
	return nil
}

func orNull(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%q", b)
}

func dumpJSON(out *bufio.Writer, path string, b dump.Batch) error {
	if b.Records == nil {
		b.Records = []dump.Record{}
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		File  string     `json:"file"`
		Batch dump.Batch `json:"batch"`
	}{path, b})
}

// dumpTSV prints a line for each record and one for the batch.
func dumpTSV(out *bufio.Writer, path string, b dump.Batch) error {
	for _, r := range b.Records {
		fmt.Fprintf(out, "%s\trecord\t%d\t%d\t%s\t%s\n", cli.EscapeTSV(path), r.Offset, r.Timestamp, cli.EscapeTSV(string(r.Key)), cli.EscapeTSV(string(r.Value)))
	}
	_, err := fmt.Fprintf(out, "%s\tbatch\t%d\t%d\t%d\t%d\t%d\t%s\t%t\n", cli.EscapeTSV(path), b.BaseOffset, b.LastOffset, b.Count, b.Position, b.Size, b.Compression, b.CRCValid)
	return err
}
