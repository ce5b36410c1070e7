package broker

import (
	"cmp"
	"encoding/json"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
)

// The configurations of a group, as Kafka names them (KIP-848). They are in force for its members' next heartbeats.
const (
	groupSession    = "consumer.session.timeout.ms"
	groupHeartbeat  = "consumer.heartbeat.interval.ms"
	groupAssignment = "consumer.assignment.interval.ms"
)

// groupOverrides is what has been set for a group, nil if nothing was.
func (b *Broker) groupOverrides(group string) (set map[string]string) {
	raw, ok := b.meta.Record(meta.Group, group)
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		b.logger.Error("the configurations of a group cannot be read; it has the broker's", "group", group, "err", err)
		return nil
	}
	return set
}

// groupConfigs is every configuration of a group, by name. Groups need not exist to have some.
func (b *Broker) groupConfigs(group string) []configEntry {
	set := b.groupOverrides(group)
	var out []configEntry
	for _, d := range meta.GroupDefinitions() {
		e := configEntry{def: d}
		if v, ok := set[d.Name]; ok {
			e.levels = append(e.levels, configLevel{d.Name, v, kmsg.ConfigSourceGroupConfig})
		}
		for _, p := range properties {
			if p.name == d.Broker {
				e.levels = append(e.levels, b.propertyLevels(p)...)
			}
		}
		if d.Broker == "" {
			e.levels = append(e.levels, configLevel{d.Name, d.Default, kmsg.ConfigSourceDefaultConfig})
		}
		e.value, e.source = e.levels[0].value, e.levels[0].source
		out = append(out, e)
	}
	return out
}

// groupTimes is how long members of a KIP-848 group may be silent, how often they are asked to say something, and how long after an
// assignment the next is computed at the earliest.
func (b *Broker) groupTimes(group string) (session, heartbeat, assignment time.Duration) {
	return b.timesOf(b.groupOverrides(group))
}

func (b *Broker) timesOf(set map[string]string) (session, heartbeat, assignment time.Duration) {
	either := func(name string, otherwise time.Duration) time.Duration {
		ms, err := strconv.ParseInt(set[name], 10, 32)
		if err != nil {
			return otherwise
		}
		return time.Duration(ms) * time.Millisecond
	}
	return either(groupSession, b.cfg.ConsumerSessionTimeout), either(groupHeartbeat, b.cfg.ConsumerHeartbeatInterval), either(groupAssignment, b.current().ConsumerAssignmentInterval)
}

// setGroupConfigs replaces what has been set for a group.
func (b *Broker) setGroupConfigs(group string, set map[string]string) error {
	change := meta.Change{Name: group}
	if len(set) > 0 {
		change.Value = set
	}
	return b.meta.ChangeRecords(meta.Group, change)
}

// checkGroupConfigs says what is wrong with the configurations of a group as a whole. Sessions have the bounds of those that members of
// classic groups ask for.
func (b *Broker) checkGroupConfigs(group string, set map[string]string) error {
	session, heartbeat, _ := b.timesOf(set)
	if _, has := set[groupSession]; has && (session < b.cfg.MinSessionTimeout || session > b.cfg.MaxSessionTimeout) {
		return refuse(kerr.InvalidConfig, "%s must be from group.min.session.timeout.ms (%d) to group.max.session.timeout.ms (%d)",
			groupSession, b.cfg.MinSessionTimeout.Milliseconds(), b.cfg.MaxSessionTimeout.Milliseconds())
	}
	if len(set) > 0 && session <= heartbeat {
		return refuse(kerr.InvalidConfig, "%s (%d) must be greater than %s (%d)", groupSession, session.Milliseconds(), groupHeartbeat, heartbeat.Milliseconds())
	}
	for _, kind := range [...]string{"share", "streams"} {
		if err := checkSilence(kind, set); err != nil {
			return err
		}
	}
	if _, has := b.meta.Record(meta.Group, group); !has && b.meta.CountRecords(meta.Group) >= b.cfg.Limits.Groups {
		return refuse(kerr.PolicyViolation, "%d groups have configurations, the limit", b.cfg.Limits.Groups)
	}
	return nil
}

// checkSilence checks what is kept for groups of a kind that is not offered, as Kafka would.
func checkSilence(kind string, set map[string]string) error {
	session, heartbeat := kind+".session.timeout.ms", kind+".heartbeat.interval.ms"
	value := func(name string) int64 {
		d, _ := meta.DefineGroup(name)
		n, _ := strconv.ParseInt(cmp.Or(set[name], d.Default), 10, 64) // has passed its own check
		return n
	}
	if value(session) <= value(heartbeat) {
		return refuse(kerr.InvalidConfig, "%s (%d) must be greater than %s (%d)", session, value(session), heartbeat, value(heartbeat))
	}
	return nil
}
