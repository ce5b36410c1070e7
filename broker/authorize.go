package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/auth"
)

// Operations and resource types by shorter names: the tables of guards are made of them.
const (
	opRead            = kmsg.ACLOperationRead
	opWrite           = kmsg.ACLOperationWrite
	opCreate          = kmsg.ACLOperationCreate
	opDelete          = kmsg.ACLOperationDelete
	opAlter           = kmsg.ACLOperationAlter
	opDescribe        = kmsg.ACLOperationDescribe
	opClusterAction   = kmsg.ACLOperationClusterAction
	opDescribeConfigs = kmsg.ACLOperationDescribeConfigs
	opAlterConfigs    = kmsg.ACLOperationAlterConfigs
	opIdempotentWrite = kmsg.ACLOperationIdempotentWrite
)

// access asks what the client of a connection may do.
type access struct {
	b *Broker
	c *conn
}

func (a access) may(op kmsg.ACLOperation, t kmsg.ACLResourceType, name string) bool {
	ok := a.allowed(op, t, name)
	if !ok {
		a.b.metrics.denial()
	}
	return ok
}

func (a access) allowed(op kmsg.ACLOperation, t kmsg.ACLResourceType, name string) bool {
	w := &a.c.who
	return w.trusted || a.b.authorizer == nil || a.b.authorizer.Allowed(w.principal, w.host, op, auth.Resource{Type: t, Name: name})
}

func (a access) topic(op kmsg.ACLOperation, name string) bool {
	return a.may(op, kmsg.ACLResourceTypeTopic, name)
}

// topicByID is topic for a topic that is named by its id; one that does not exist is left to the handler.
func (a access) topicByID(op kmsg.ACLOperation, id [16]byte) bool {
	name, ok := a.b.topicName(id)
	return !ok || a.topic(op, name)
}

func (a access) group(op kmsg.ACLOperation, id string) bool {
	return a.may(op, kmsg.ACLResourceTypeGroup, id)
}

func (a access) txn(op kmsg.ACLOperation, id string) bool {
	return a.may(op, kmsg.ACLResourceTypeTransactionalId, id)
}

func (a access) cluster(op kmsg.ACLOperation) bool {
	return a.may(op, auth.Cluster.Type, auth.Cluster.Name)
}

// operations is the protocol's set of what the client may do.
func (a access) operations(t kmsg.ACLResourceType, name string) int32 {
	return auth.Bits(t, func(op kmsg.ACLOperation) bool { return a.allowed(op, t, name) })
}

// guard looks at a decoded request before its handler does. It takes out what the client may not do, which amend then answers in
// the handler's response; or it denies the request as a whole with the response to it. Either may be nil. Guards are asked only if
// there is an authorizer; there is one for each API that kmsg decodes, see guards. Produce and Fetch ask in their handlers.
type guard func(a access, req kmsg.Request) (deny kmsg.Response, amend func(kmsg.Response))

// serveGuarded serves a request as far as the client may send it.
func (b *Broker) serveGuarded(c *conn, row *route, r *request) (response, error) {
	a := access{b, c}
	var amend func(kmsg.Response)
	if b.authorizer != nil && !c.who.trusted && r.body != nil {
		var deny kmsg.Response
		if deny, amend = row.guard(a, r.body); deny != nil {
			return answer(deny), nil
		}
	}
	resp, err := row.serve(b, c, r)
	if err != nil || r.body == nil {
		return resp, err
	}
	if amend = then(amend, fillOperations(a, r.body)); amend == nil {
		return resp, nil
	}
	return amended{resp, amend}, nil
}

// amended is a response that something is added to, or taken from, when it is known.
type amended struct {
	response
	amend func(kmsg.Response)
}

func (m amended) await(ctx context.Context) (reply, error) {
	rep, err := m.response.await(ctx)
	if k, ok := rep.(kmsgReply); ok && err == nil {
		m.amend(k.resp)
	}
	return rep, err
}

// then is both of two amendments, either of which may be nil.
func then(first, second func(kmsg.Response)) func(kmsg.Response) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(r kmsg.Response) {
		first(r)
		second(r)
	}
}

// anyone is the guard of what needs no permission.
func anyone(access, kmsg.Request) (kmsg.Response, func(kmsg.Response)) { return nil, nil }

// whole makes the guard of a request that is allowed or denied as one.
func whole[Q kmsg.Request](may func(access, Q) bool, deny func(Q) kmsg.Response) guard {
	return func(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
		if q := req.(Q); !may(a, q) {
			return deny(q), nil
		}
		return nil, nil
	}
}

// onCluster makes the guard of a request that needs an operation on the cluster. deny is told CLUSTER_AUTHORIZATION_FAILED.
func onCluster[Q kmsg.Request](op kmsg.ACLOperation, deny func(q Q, code int16) kmsg.Response) guard {
	return whole(func(a access, _ Q) bool { return a.cluster(op) }, func(q Q) kmsg.Response { return deny(q, kerr.ClusterAuthorizationFailed.Code) })
}

// each makes the guard of a request that is about a list of things: those that the client may not touch are taken out, and answered
// by refuse.
func each[Q kmsg.Request, R kmsg.Response, T any](list func(Q) *[]T, may func(access, *T) bool, refuse func(R, T)) guard {
	return func(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
		l := list(req.(Q))
		var denied []T
		*l, denied = split(*l, func(t *T) bool { return may(a, t) })
		if len(denied) == 0 {
			return nil, nil
		}
		return nil, func(resp kmsg.Response) {
			for _, t := range denied {
				refuse(resp.(R), t)
			}
		}
	}
}

// only makes the guard of a request that is answered with what the client may see.
func only[Q kmsg.Request, R kmsg.Response, T any](list func(R) *[]T, may func(access, *T) bool) guard {
	return func(a access, _ kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
		return nil, func(resp kmsg.Response) {
			l := list(resp.(R))
			*l, _ = split(*l, func(t *T) bool { return may(a, t) })
		}
	}
}

// everyGuard makes one guard of several: each must let the request pass.
func everyGuard(guards ...guard) guard {
	return func(a access, req kmsg.Request) (kmsg.Response, func(kmsg.Response)) {
		var amend func(kmsg.Response)
		for _, g := range guards {
			deny, more := g(a, req)
			if deny != nil {
				return deny, nil
			}
			amend = then(amend, more)
		}
		return nil, amend
	}
}

// split divides a list. What is kept of a list that is not nil is not nil: the two mean different things in requests.
func split[T any](list []T, keep func(*T) bool) (kept, others []T) {
	if list == nil {
		return nil, nil
	}
	kept = make([]T, 0, len(list))
	for i := range list {
		if keep(&list[i]) {
			kept = append(kept, list[i])
		} else {
			others = append(others, list[i])
		}
	}
	return kept, others
}

// fillOperations puts the operations that the client may do into answers to those who asked for them.
func fillOperations(a access, req kmsg.Request) func(kmsg.Response) {
	ofCluster := func() int32 {
		if !a.cluster(opDescribe) {
			return 0
		}
		return a.operations(auth.Cluster.Type, auth.Cluster.Name)
	}
	switch q := req.(type) {
	case *kmsg.MetadataRequest:
		if !q.IncludeClusterAuthorizedOperations && !q.IncludeTopicAuthorizedOperations {
			return nil
		}
		return func(r kmsg.Response) {
			resp := r.(*kmsg.MetadataResponse)
			if q.IncludeClusterAuthorizedOperations {
				resp.AuthorizedOperations = ofCluster()
			}
			for i := range resp.Topics {
				if t := &resp.Topics[i]; q.IncludeTopicAuthorizedOperations && t.ErrorCode == 0 && t.Topic != nil {
					t.AuthorizedOperations = a.operations(kmsg.ACLResourceTypeTopic, *t.Topic)
				}
			}
		}
	case *kmsg.DescribeClusterRequest:
		if q.IncludeClusterAuthorizedOperations {
			return func(r kmsg.Response) { r.(*kmsg.DescribeClusterResponse).ClusterAuthorizedOperations = ofCluster() }
		}
	case *kmsg.DescribeTopicPartitionsRequest:
		return func(r kmsg.Response) {
			resp := r.(*kmsg.DescribeTopicPartitionsResponse)
			for i := range resp.Topics {
				if t := &resp.Topics[i]; t.ErrorCode == 0 && t.Topic != nil {
					t.AuthorizedOperations = a.operations(kmsg.ACLResourceTypeTopic, *t.Topic)
				}
			}
		}
	case *kmsg.DescribeGroupsRequest:
		if q.IncludeAuthorizedOperations {
			return func(r kmsg.Response) {
				resp := r.(*kmsg.DescribeGroupsResponse)
				for i := range resp.Groups {
					if g := &resp.Groups[i]; g.ErrorCode == 0 {
						g.AuthorizedOperations = a.operations(kmsg.ACLResourceTypeGroup, g.Group)
					}
				}
			}
		}
	case *kmsg.ConsumerGroupDescribeRequest:
		if q.IncludeAuthorizedOperations {
			return func(r kmsg.Response) {
				resp := r.(*kmsg.ConsumerGroupDescribeResponse)
				for i := range resp.Groups {
					if g := &resp.Groups[i]; g.ErrorCode == 0 {
						g.AuthorizedOperations = a.operations(kmsg.ACLResourceTypeGroup, g.Group)
					}
				}
			}
		}
	}
	return nil
}
