package broker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/broker/internal/quota"
)

// loadQuotas takes the quotas from the metadata.
func (b *Broker) loadQuotas() error {
	b.quotas = quota.NewTable()
	for key, raw := range b.meta.Records(meta.Quota) {
		e, err := quota.ParseEntity(key)
		if err != nil {
			return fmt.Errorf("%w: %w", meta.ErrCorrupt, err)
		}
		var l quota.Limits
		if err := json.Unmarshal(raw, &l); err != nil {
			return fmt.Errorf("%w: quotas of %s: %w", meta.ErrCorrupt, key, err)
		}
		b.quotas.Set(e, l)
	}
	return nil
}

// AlterClientQuotas (key 49), versions 0–1. Entities are users, client ids, and both together; no name means the default. Quotas:
// producer_byte_rate, consumer_byte_rate, request_percentage. In force at once. Errors per entity: INVALID_REQUEST (also for the
// quotas of Kafka that are not enforced here: addresses, controller mutations), POLICY_VIOLATION (limit).
func serveAlterClientQuotas(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.AlterClientQuotasRequest)
	resp := kmsg.NewPtrAlterClientQuotasResponse()
	for _, e := range req.Entries {
		err := b.alterQuotas(e, req.ValidateOnly)
		resp.Entries = append(resp.Entries, quotaResult(e, errorCode(err), errorText(err)))
	}
	return answer(resp), nil
}

func (b *Broker) alterQuotas(e kmsg.AlterClientQuotasRequestEntry, validateOnly bool) error {
	entity, err := quotaEntity(e.Entity)
	if err != nil {
		return err
	}
	b.quotaChanges.Lock()
	defer b.quotaChanges.Unlock()
	limits := maps.Clone(b.quotas.All()[entity])
	if limits == nil {
		limits = quota.Limits{}
	}
	for _, op := range e.Ops {
		k := quota.Key(op.Key)
		if op.Remove {
			delete(limits, k)
			continue
		}
		if err := quota.Check(k, op.Value); err != nil {
			return refuse(kerr.InvalidRequest, "%s", err)
		}
		limits[k] = op.Value
	}
	if most := b.cfg.Security.MaxQuotas; len(limits) > 0 && b.quotas.All()[entity] == nil && len(b.quotas.All()) >= most {
		return refuse(kerr.PolicyViolation, "the limit of %d entities with quotas is reached", most)
	}
	if validateOnly {
		return nil
	}
	change := meta.Change{Name: entity.Key()}
	if len(limits) > 0 {
		change.Value = limits
	}
	if err := b.meta.ChangeRecords(meta.Quota, change); err != nil {
		return err
	}
	b.quotas.Set(entity, limits)
	b.logger.Info("client quotas changed", "entity", entity.Key(), "quotas", fmt.Sprint(limits))
	return nil
}

// maxQuotaName bounds the names in quotas' entities.
const maxQuotaName = 1024

func quotaEntity(parts []kmsg.AlterClientQuotasRequestEntryEntity) (e quota.Entity, err error) {
	for _, p := range parts {
		part := quota.Everyone()
		if p.Name != nil {
			if part = quota.Named(*p.Name); *p.Name == "" || len(*p.Name) > maxQuotaName {
				return e, refuse(kerr.InvalidRequest, "the name of a %s must have 1 to %d bytes", p.Type, maxQuotaName)
			}
		}
		to := &e.User
		switch p.Type {
		case "user":
		case "client-id":
			to = &e.ClientID
		default:
			return e, refuse(kerr.InvalidRequest, "quotas of entity type %q are not enforced by this broker: it has user and client-id", p.Type)
		}
		if to.Set {
			return e, refuse(kerr.InvalidRequest, "entity type %s twice in one entity", p.Type)
		}
		*to = part
	}
	if !e.User.Set && !e.ClientID.Set {
		return e, refuse(kerr.InvalidRequest, "an entity without parts")
	}
	return e, nil
}

// DescribeClientQuotas (key 48), versions 0–1. An entity is listed if each component matches one of its parts and, if strict, it has no
// others; no components match all. Errors: INVALID_REQUEST.
func serveDescribeClientQuotas(b *Broker, c *conn, r *request) (response, error) {
	req := r.body.(*kmsg.DescribeClientQuotasRequest)
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	seen := map[string]bool{}
	for _, comp := range req.Components {
		if seen[comp.EntityType] || comp.MatchType < 0 || comp.MatchType > 2 || comp.MatchType == 0 && comp.Match == nil {
			resp.ErrorCode = kerr.InvalidRequest.Code
			resp.ErrorMessage = kmsg.StringPtr("a component is there twice, or its match is of no known type")
			return answer(resp), nil
		}
		seen[comp.EntityType] = true
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // none is not null, which is for errors: Java's client takes it for no answer
	for e, limits := range b.quotas.All() {
		if quotaMatches(e, req) {
			resp.Entries = append(resp.Entries, describedQuota(e, limits))
		}
	}
	slices.SortFunc(resp.Entries, func(x, y kmsg.DescribeClientQuotasResponseEntry) int {
		return cmp.Compare(entityText(x), entityText(y))
	})
	return answer(resp), nil
}

func quotaMatches(e quota.Entity, req *kmsg.DescribeClientQuotasRequest) bool {
	parts := map[string]quota.Part{"user": e.User, "client-id": e.ClientID}
	for _, comp := range req.Components {
		p := parts[comp.EntityType]
		switch comp.MatchType {
		case 0:
			if !p.Set || p.Default || p.Name != *comp.Match {
				return false
			}
		case 1:
			if !p.Default {
				return false
			}
		default:
			if !p.Set {
				return false
			}
		}
		delete(parts, comp.EntityType)
	}
	return !req.Strict || !parts["user"].Set && !parts["client-id"].Set
}

func describedQuota(e quota.Entity, limits quota.Limits) kmsg.DescribeClientQuotasResponseEntry {
	de := kmsg.NewDescribeClientQuotasResponseEntry()
	add := func(kind string, p quota.Part) {
		if p.Set {
			part := kmsg.DescribeClientQuotasResponseEntryEntity{Type: kind}
			if !p.Default {
				part.Name = kmsg.StringPtr(p.Name)
			}
			de.Entity = append(de.Entity, part)
		}
	}
	add("user", e.User)
	add("client-id", e.ClientID)
	for _, k := range quota.Keys {
		if v, ok := limits[k]; ok {
			de.Values = append(de.Values, kmsg.DescribeClientQuotasResponseEntryValue{Key: string(k), Value: v})
		}
	}
	return de
}

func entityText(e kmsg.DescribeClientQuotasResponseEntry) (text string) {
	for _, p := range e.Entity {
		text += p.Type + "="
		if p.Name != nil {
			text += *p.Name
		}
		text += ","
	}
	return text
}
