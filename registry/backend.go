package registry

import (
	"context"
)

// direct is the embedded registry as a Backend and Admin.
type direct struct{ s *Server }

var _ Admin = direct{}

func (b direct) Register(ctx context.Context, subject string, d Definition) (Schema, error) {
	c, err := b.s.ready()
	if err != nil {
		return Schema{}, err
	}
	return c.register(ctx, canonicalSubject(subject), d, registration{})
}

func (b direct) Lookup(_ context.Context, subject string, d Definition) (Schema, error) {
	return one(b, func(c *core) (*entry, error) { return c.lookup(subject, d, false, false) })
}

func (b direct) SchemaByID(_ context.Context, id int) (Definition, error) {
	c, err := b.s.ready()
	if err != nil {
		return Definition{}, err
	}
	d, ok := c.state.byID(defaultContext, id)
	if !ok {
		return d, fail(codeSchemaNotFound, "Schema %d not found", id)
	}
	return d, nil
}

// SchemaByGUID finds a definition by its content identifier, in any context.
func (b direct) SchemaByGUID(_ context.Context, guid string) (Definition, error) {
	c, err := b.s.ready()
	if err != nil {
		return Definition{}, err
	}
	for _, context := range c.state.contexts() {
		if id, ok := c.state.idOfGUID(context, guid); ok {
			d, _ := c.state.byID(context, id)
			return d, nil
		}
	}
	return Definition{}, fail(codeSchemaNotFound, "Schema %s not found", guid)
}

// GUID is the content identifier of the schema with an id.
func (b direct) GUID(ctx context.Context, id int) (string, error) {
	d, err := b.SchemaByID(ctx, id)
	if err != nil {
		return "", err
	}
	return d.guid(), nil
}

func (b direct) SchemaByVersion(_ context.Context, subject string, version int) (Schema, error) {
	return one(b, func(c *core) (*entry, error) { return c.get(subject, version, false) })
}

func one(b direct, f func(*core) (*entry, error)) (Schema, error) {
	c, err := b.s.ready()
	if err != nil {
		return Schema{}, err
	}
	e, err := f(c)
	if err != nil {
		return Schema{}, err
	}
	return e.Schema, nil
}

func (b direct) Subjects(_ context.Context, deleted bool) ([]string, error) {
	c, err := b.s.ready()
	if err != nil {
		return nil, err
	}
	return c.subjects(everyContext, deleted, false), nil
}

func (b direct) Versions(_ context.Context, subject string) ([]int, error) {
	c, err := b.s.ready()
	if err != nil {
		return nil, err
	}
	list := c.state.versions(subject, false)
	if len(list) == 0 {
		return nil, subjectNotFound(subject)
	}
	versions := make([]int, len(list))
	for i, e := range list {
		versions[i] = e.Version
	}
	return versions, nil
}

func (b direct) Check(_ context.Context, subject string, version int, d Definition) error {
	c, err := b.s.ready()
	if err != nil {
		return err
	}
	v, err := c.checkVersion(subject, version, d, false)
	if err != nil {
		return err
	}
	return v.err(subject)
}

func (b direct) Level(_ context.Context, subject string) (Level, error) {
	c, err := b.s.ready()
	if err != nil {
		return "", err
	}
	return c.level(subject), nil
}

func (b direct) SetLevel(ctx context.Context, subject string, level Level) error {
	c, err := b.s.ready()
	if err != nil {
		return err
	}
	_, err = c.setConfig(ctx, subject, configUpdate{Compatibility: string(level)})
	return err
}

func (b direct) DeleteSubject(ctx context.Context, subject string, permanent bool) error {
	c, err := b.s.ready()
	if err != nil {
		return err
	}
	_, err = c.deleteSubject(ctx, subject, permanent)
	return err
}

func (b direct) DeleteVersion(ctx context.Context, subject string, version int, permanent bool) error {
	c, err := b.s.ready()
	if err != nil {
		return err
	}
	_, err = c.deleteVersion(ctx, subject, version, permanent)
	return err
}
