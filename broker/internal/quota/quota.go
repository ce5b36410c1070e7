// Package quota limits what clients may take of the broker, as Kafka's client quotas do: bytes produced and consumed per second, and
// a share of the time that requests are served.
//
// A [Table] holds the quotas and what each client has used. A client is told how long to wait after it has gone over its quota; the
// broker then leaves its connection unread for so long. Nobody is refused.
package quota

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Key names a quota.
type Key string

// The quotas that are enforced.
const (
	ProduceRate    Key = "producer_byte_rate" // bytes per second
	ConsumeRate    Key = "consumer_byte_rate" // bytes per second
	RequestPercent Key = "request_percentage" // of one processor's time
)

// Keys are all quotas that there are.
var Keys = []Key{ProduceRate, ConsumeRate, RequestPercent}

// Part is one side of an entity: absent, everyone that has no quota of his own (Default), or one name.
type Part struct {
	Set, Default bool
	Name         string
}

// Named is the part of one name.
func Named(name string) Part { return Part{Set: true, Name: name} }

// Everyone is the default part.
func Everyone() Part { return Part{Set: true, Default: true} }

// Entity is whom a quota is for.
type Entity struct {
	User, ClientID Part
}

// Key is the entity's text, by which it is remembered.
func (e Entity) Key() string {
	m := map[string]*string{}
	for name, p := range map[string]Part{"user": e.User, "client-id": e.ClientID} {
		if p.Set {
			m[name] = nil
			if !p.Default {
				m[name] = &p.Name
			}
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("quota: an entity does not marshal: %v", err)) // strings only
	}
	return string(text)
}

// ParseEntity reads Key's text.
func ParseEntity(key string) (e Entity, err error) {
	var m map[string]*string
	if err := json.Unmarshal([]byte(key), &m); err != nil {
		return e, fmt.Errorf("quota entity %q: %w", key, err)
	}
	for name, value := range m {
		p := Everyone()
		if value != nil {
			p = Named(*value)
		}
		switch name {
		case "user":
			e.User = p
		case "client-id":
			e.ClientID = p
		default:
			return e, fmt.Errorf("quota entity %q: unknown part %q", key, name)
		}
	}
	return e, nil
}

// Limits are an entity's quotas.
type Limits map[Key]float64

const (
	// window is how much of its quota a client may use at once after it has been quiet.
	window = time.Second
	// longest is the longest wait that a client is given at a time; what it has used beyond that is not forgotten.
	longest = 30 * time.Second
	// longestRequest is the same for [RequestPercent], as in Kafka (its quota window), and requestMemory bounds what is remembered of
	// it: what a request takes is not the client's to choose, and one that waits for a slow disk must not cost it half a minute.
	longestRequest = window
	requestMemory  = 10 * window
	// maxClients bounds the clients whose use is remembered. Those who have not gone over their quota lately are forgotten first.
	maxClients = 10_000
)

// Table is safe for concurrent use. While there are no quotas it costs one atomic load.
type Table struct {
	limits atomic.Pointer[map[Entity]Limits] // nil: none

	mu    sync.Mutex // protects following fields
	usage map[client]*bucket
	swept time.Time // when quiet clients were looked for last
}

// client is one whose use is counted together.
type client struct {
	key          Key
	user, client string
	byUser, byID bool
}

// bucket fills at the rate of the quota, up to window's worth. Use beyond what is in it is a debt.
type bucket struct {
	have float64
	at   time.Time
}

// NewTable makes a table without quotas.
func NewTable() *Table { return &Table{usage: map[client]*bucket{}} }

// Set replaces an entity's quotas; none removes it. Calls must not overlap.
func (t *Table) Set(e Entity, l Limits) {
	all := map[Entity]Limits{}
	if old := t.limits.Load(); old != nil {
		all = maps.Clone(*old)
	}
	if delete(all, e); len(l) > 0 {
		all[e] = maps.Clone(l)
	}
	if len(all) == 0 {
		t.limits.Store(nil)
		return
	}
	t.limits.Store(&all)
}

// All returns the quotas. The maps must not be changed.
func (t *Table) All() map[Entity]Limits {
	if l := t.limits.Load(); l != nil {
		return *l
	}
	return nil
}

// limit finds the quota in force for a client, the most special first, as Kafka orders them, and whose use counts towards it.
func (t *Table) limit(k Key, user, clientID string) (float64, client) {
	all := t.limits.Load()
	if all == nil {
		return 0, client{}
	}
	for _, e := range []Entity{
		{Named(user), Named(clientID)}, {Named(user), Everyone()}, {Named(user), Part{}},
		{Everyone(), Named(clientID)}, {Everyone(), Everyone()}, {Everyone(), Part{}},
		{Part{}, Named(clientID)}, {Part{}, Everyone()},
	} {
		rate, ok := (*all)[e][k]
		if !ok {
			continue
		}
		c := client{key: k, byUser: e.User.Set, byID: e.ClientID.Set}
		if c.byUser {
			c.user = user
		}
		if c.byID {
			c.client = clientID
		}
		return rate, c
	}
	return 0, client{}
}

// Limit is the quota in force for a client, in units per second; 0 is none.
func (t *Table) Limit(k Key, user, clientID string) float64 {
	rate, _ := t.limit(k, user, clientID)
	return rate
}

// Use counts what a client has used, in the quota's unit (for RequestPercent: percent times seconds), and returns how long it has
// to wait; 0 if it is within its quota or has none.
func (t *Table) Use(k Key, user, clientID string, amount float64, now time.Time) time.Duration {
	rate, c := t.limit(k, user, clientID)
	if rate <= 0 {
		return 0
	}
	full := rate * window.Seconds()
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.usage[c]
	if b == nil {
		if c = t.makeRoomLocked(c, now); t.usage[c] == nil {
			t.usage[c] = &bucket{full, now}
		}
		b = t.usage[c]
	}
	b.have = min(b.have+rate*max(now.Sub(b.at).Seconds(), 0), full) - amount
	b.at = now
	most := longest
	if k == RequestPercent {
		most = longestRequest
		b.have = max(b.have, -rate*requestMemory.Seconds())
	}
	if b.have >= 0 {
		return 0
	}
	return time.Duration(math.Min(-b.have/rate*float64(time.Second), float64(most)))
}

// makeRoomLocked forgets clients that have been quiet. If all are busy, the new one shares a place with others of its kind.
func (t *Table) makeRoomLocked(c client, now time.Time) client {
	if len(t.usage) < maxClients {
		return c
	}
	if now.Sub(t.swept) < window {
		return client{key: c.key}
	}
	t.swept = now
	maps.DeleteFunc(t.usage, func(_ client, b *bucket) bool {
		return b.have >= 0 && now.Sub(b.at) > window || now.Sub(b.at) > time.Hour
	})
	if len(t.usage) < maxClients {
		return c
	}
	return client{key: c.key}
}

// Check says what is wrong with a quota that is to be set.
func Check(k Key, value float64) error {
	switch {
	case !slices.Contains(Keys, k):
		return fmt.Errorf("quota %q is not enforced by this broker: it has %v", k, Keys)
	case !(value > 0) || math.IsInf(value, 1):
		return fmt.Errorf("quota %s must be a number above 0, not %v", k, value)
	}
	return nil
}
