package streams

import "github.com/leatstream/leat/state"

// keptBy makes the store one that an engine of the user's own keeps; nil: Pebble, or memory.
func (d *storeDef) keptBy(b *Builder, engine *state.OwnEngine) {
	if engine == nil {
		return
	}
	if err := engine.Validate(); err != nil {
		b.mistake("store %q: %w", d.spec.Name, err)
	}
	if d.shard.Medium == state.Memory {
		b.mistake("store %q is InMemory and has Engine %q: choose one", d.spec.Name, engine.Name)
	}
	for _, other := range b.stores {
		if e := other.shard.Engine; e != nil && e != engine && e.Name == engine.Name {
			b.mistake("stores %q and %q have two engines named %q: one descriptor, declared once, serves everywhere", other.spec.Name, d.spec.Name, e.Name)
		}
	}
	d.shard.Engine = engine
}
