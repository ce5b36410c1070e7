package cli

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Bounds are the offsets of a partition: of the earliest record and after the latest.
type Bounds struct{ Start, End int64 }

// Range are the bounds of partitions, by topic and partition.
type Range map[string]map[int32]Bounds

// Clamp brings an offset into the bounds.
func (b Bounds) Clamp(offset int64) int64 { return min(max(offset, b.Start), b.End) }

// BoundsOf asks for the bounds of all partitions of topics.
func BoundsOf(ctx context.Context, cl *Cluster, topics ...string) (Range, error) {
	if len(topics) == 0 { // kadm would take no topic for all of them
		return Range{}, nil
	}
	starts, err := cl.Admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := cl.Admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	r := Range{}
	for topic, partitions := range starts {
		r[topic] = map[int32]Bounds{}
		for p, start := range partitions {
			end, _ := ends.Lookup(topic, p)
			if start.Err != nil {
				return nil, fmt.Errorf("start offset of %s partition %d: %w", topic, p, start.Err)
			}
			if end.Err != nil {
				return nil, fmt.Errorf("end offset of %s partition %d: %w", topic, p, end.Err)
			}
			r[topic][p] = Bounds{start.Offset, end.Offset}
		}
	}
	return r, nil
}

// Resolve says which offset pos is in each partition of topics, within the partition's bounds. Forward and Backward count from
// start and end. [AtCurrent] is left to those who know where they are.
func Resolve(ctx context.Context, cl *Cluster, pos Position, bounds Range, topics ...string) (map[string]map[int32]int64, error) {
	var after kadm.ListedOffsets
	if pos.Kind == AtTime && len(topics) > 0 {
		var err error
		if after, err = cl.Admin.ListOffsetsAfterMilli(ctx, pos.Time.UnixMilli(), topics...); err != nil {
			return nil, err
		}
	}
	offsets := map[string]map[int32]int64{}
	for _, topic := range topics {
		offsets[topic] = map[int32]int64{}
		for p, b := range bounds[topic] {
			at := b.Start
			switch pos.Kind {
			case AtEnd:
				at = b.End
			case AtOffset:
				at = pos.N
			case Forward:
				at = b.Start + pos.N
			case Backward:
				at = b.End - pos.N
			case AtTime:
				o, _ := after.Lookup(topic, p)
				if o.Err != nil {
					return nil, fmt.Errorf("offset of %s partition %d at %s: %w", topic, p, pos.Time, o.Err)
				}
				at = o.Offset
			}
			offsets[topic][p] = b.Clamp(at)
		}
	}
	return offsets, nil
}
