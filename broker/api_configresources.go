package broker

import (
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
)

// ListConfigResources (key 74), versions 0–1: what DescribeConfigs can be asked for. v0 lists client metrics, of which there are none;
// v1 the types asked for, all if none is. Loggers and client metrics have
// no configurations here; groups are listed for which something was set.
// Errors: UNSUPPORTED_VERSION for types that do not exist.
func serveListConfigResources(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.ListConfigResourcesRequest)
	resp := kmsg.NewPtrListConfigResourcesResponse()
	types := []kmsg.ConfigResourceType{kmsg.ConfigResourceTypeClientMetrics}
	if req.Version >= 1 {
		types = []kmsg.ConfigResourceType{
			kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger,
			kmsg.ConfigResourceTypeClientMetrics, kmsg.ConfigResourceTypeGroupConfig,
		}
	}
	for _, t := range req.ResourceTypes {
		if !slices.Contains(types, kmsg.ConfigResourceType(t)) {
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			return answer(resp), nil
		}
	}
	for _, t := range types {
		if len(req.ResourceTypes) > 0 && !slices.Contains(req.ResourceTypes, int8(t)) {
			continue
		}
		for _, name := range b.configResources(t) {
			cr := kmsg.NewListConfigResourcesResponseConfigResource()
			cr.Name, cr.Type = name, int8(t)
			resp.ConfigResources = append(resp.ConfigResources, cr)
		}
	}
	return answer(resp), nil
}

// configResources names the resources of a type.
func (b *Broker) configResources(t kmsg.ConfigResourceType) (names []string) {
	switch t {
	case kmsg.ConfigResourceTypeTopic:
		for _, t := range b.listedTopics() {
			names = append(names, t.Name)
		}
	case kmsg.ConfigResourceTypeBroker:
		names = append(names, strconv.Itoa(int(b.cfg.NodeID)))
	case kmsg.ConfigResourceTypeGroupConfig:
		names = slices.Sorted(maps.Keys(b.meta.Records(meta.Group)))
	}
	return names
}
