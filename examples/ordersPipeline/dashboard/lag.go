package dashboard

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Group is a consumer group of the shop: the service it belongs to.
type Group struct {
	Service, Name string
}

// lags asks how many committed records each group has before it. Where it cannot be told, Records is -1.
func lags(ctx context.Context, admin *kadm.Client, groups []Group) []Lag {
	list := make([]Lag, len(groups))
	for i, g := range groups {
		list[i] = Lag{Service: g.Service, Group: g.Name, Records: lag(ctx, admin, g.Name)}
	}
	return list
}

func lag(ctx context.Context, admin *kadm.Client, group string) int64 {
	offsets, err := admin.FetchOffsets(ctx, group)
	if err != nil || offsets.Error() != nil {
		return -1
	}
	topics := offsets.Offsets().TopicsSet().Topics()
	if len(topics) == 0 {
		return -1
	}
	// The last stable offset: what lies behind it is not committed, and no service may read it.
	ends, err := admin.ListCommittedOffsets(ctx, topics...)
	if err != nil || ends.Error() != nil {
		return -1
	}
	total := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) {
		if end, ok := ends.Lookup(o.Topic, o.Partition); ok {
			total += max(0, end.Offset-max(0, o.At))
		}
	})
	return total
}
