package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator (key 10), versions 0–6. This broker coordinates every group (type 0) and transactional id (type 1).
// Errors: INVALID_REQUEST for other types (share groups).
func serveFindCoordinator(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.FindCoordinatorRequest)
	resp := kmsg.NewPtrFindCoordinatorResponse()
	var code int16
	var text *string
	if req.Version >= 1 && req.CoordinatorType != 0 && req.CoordinatorType != 1 {
		code = kerr.InvalidRequest.Code
		text = kmsg.StringPtr("this broker coordinates groups (0) and transactions (1) only")
	}
	id, host, port := b.node(c)
	if code != 0 {
		id, host, port = -1, "", -1
	}
	if req.Version < 4 {
		resp.ErrorCode, resp.ErrorMessage = code, text
		resp.NodeID, resp.Host, resp.Port = id, host, port
		return answer(resp), nil
	}
	for _, key := range req.CoordinatorKeys {
		rc := kmsg.NewFindCoordinatorResponseCoordinator()
		rc.Key, rc.ErrorCode, rc.ErrorMessage = key, code, text
		rc.NodeID, rc.Host, rc.Port = id, host, port
		resp.Coordinators = append(resp.Coordinators, rc)
	}
	return answer(resp), nil
}
