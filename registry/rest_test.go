package registry

import (
	"testing"
)

const (
	orderV1 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"total","type":"long"}]}`
	orderV2 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"currency","type":"string","default":"EUR"}]}`
	orderV3 = `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"coupon","type":["null","string"]}]}`
)

func TestSmoke(t *testing.T) {
	c := newCluster(t)
	s := start(t, c.ListenAddrs())
	t.Log(do(t, s, "POST", "/subjects/orders-value/versions", schemaBody(orderV1)))
	t.Log(do(t, s, "POST", "/subjects/orders-value/versions", schemaBody(orderV1)))
	t.Log(do(t, s, "POST", "/subjects/orders-value/versions/", schemaBody(orderV2)))
	t.Log(do(t, s, "POST", "/subjects/orders-value/versions", schemaBody(orderV3)))
	t.Log(do(t, s, "GET", "/subjects/orders-value/versions/latest", ""))
	t.Log(do(t, s, "GET", "/nothing", ""))
	t.Log(do(t, s, "PATCH", "/subjects", ""))
	for _, r := range records(t, c.ListenAddrs(), "_schemas") {
		t.Logf("%d %s %s", r.Offset, r.Key, r.Value)
	}
}
