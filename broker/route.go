package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/wire"
)

// Keys that the frame loop treats in a special way.
const (
	keyProduce     = 0
	keyFetch       = 1
	keyAPIVersions = 18
)

// route is one row of the routing table: an API, the versions it is advertised and served in, and who serves it.
type route struct {
	key int16
	// min and max are the versions advertised by ApiVersions.
	min, max int16
	// acceptMin is the lowest version that is served; it differs from min only where clients look for a version that nobody
	// speaks any more (Produce). 0 means min.
	acceptMin int16
	// flexible is the first version with tagged fields, used by raw rows only; kmsg knows it for the others.
	flexible int16
	// raw rows decode request.raw themselves (the record path: no copy, counts bounded by the frame).
	raw   bool
	serve handler
	// guard asks whether the client may; set by routes for rows that are not raw.
	guard guard
	// schema guards the decoder of flexible versions; set by routes for rows that are not raw.
	schema *wire.Schema
}

// routes is the one table of what this broker speaks. Version ranges: what real clients test for, not only what they speak;
// the reasons are beside the handlers. Keys that are missing close the connection, as in Kafka.
func routes() routeTable {
	rows := []route{
		{key: keyProduce, min: 0, max: 13, acceptMin: 3, flexible: 9, raw: true, serve: serveProduce},
		{key: keyFetch, min: 4, max: 17, flexible: 12, raw: true, serve: serveFetch},
		{key: 2, min: 0, max: 11, serve: serveListOffsets},
		{key: 3, min: 0, max: 13, serve: serveMetadata},
		{key: keyAPIVersions, min: 0, max: 4, serve: serveAPIVersions},
		{key: 19, min: 0, max: 7, serve: serveCreateTopics},
		{key: 20, min: 0, max: 6, serve: serveDeleteTopics},
		{key: 21, min: 0, max: 2, serve: serveDeleteRecords},
		{key: 23, min: 0, max: 4, serve: serveOffsetForLeaderEpoch},
		{key: 32, min: 0, max: 4, serve: serveDescribeConfigs},
		{key: 33, min: 0, max: 2, serve: serveAlterConfigs},
		{key: 34, min: 1, max: 2, serve: serveAlterReplicaLogDirs},
		{key: 35, min: 0, max: 4, serve: serveDescribeLogDirs},
		{key: 37, min: 0, max: 3, serve: serveCreatePartitions},
		{key: 43, min: 0, max: 2, serve: serveElectLeaders},
		{key: 44, min: 0, max: 1, serve: serveIncrementalAlterConfigs},
		{key: 45, min: 0, max: 1, serve: serveAlterPartitionReassignments},
		{key: 46, min: 0, max: 0, serve: serveListPartitionReassignments},
		{key: 55, min: 0, max: 2, serve: serveDescribeQuorum},
		{key: 57, min: 0, max: 2, serve: serveUpdateFeatures},
		{key: 60, min: 0, max: 2, serve: serveDescribeCluster},
		{key: 61, min: 0, max: 0, serve: serveDescribeProducers},
		{key: 74, min: 0, max: 1, serve: serveListConfigResources},
		{key: 75, min: 0, max: 0, serve: serveDescribeTopicPartitions},
	}
	rows = append(rows, coordinatorRoutes()...)
	rows = append(rows, securityRoutes()...)
	var t routeTable
	schemas, guards := schemas(), guards()
	for _, r := range rows {
		r.schema, r.guard = schemas[r.key], guards[r.key]
		r.acceptMin = max(r.acceptMin, r.min)
		t[r.key] = &r
	}
	return t
}

// routeTable is indexed by API key.
type routeTable [128]*route

// find returns the row of key, nil if the API is not served.
func (t *routeTable) find(key int16) *route {
	if key < 0 || int(key) >= len(t) {
		return nil
	}
	return t[key]
}

// applyOldDefaults sets what the protocol says about fields that a request's old version does not carry, where kmsg's zero value
// says otherwise.
func applyOldDefaults(req kmsg.Request) {
	switch r := req.(type) {
	case *kmsg.MetadataRequest:
		if r.Version < 4 {
			r.AllowAutoTopicCreation = true
		}
	}
}
