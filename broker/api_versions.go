package broker

import "github.com/twmb/franz-go/pkg/kmsg"

// ApiVersions (key 18), versions 0–4.
func serveAPIVersions(b *Broker, c *conn, r *request) (response, error) {
	return answer(kmsg.NewPtrApiVersionsResponse()), nil
}
