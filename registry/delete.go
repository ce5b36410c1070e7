package registry

import (
	"context"
	"slices"
)

// deleteSubject soft-deletes all versions of a subject, or deletes a soft-deleted subject for good. It returns the
// versions that went.
func (c *core) deleteSubject(ctx context.Context, subject string, permanent bool) ([]int, error) {
	if err := c.log.lock(ctx); err != nil {
		return nil, unavailable(err)
	}
	defer c.log.unlock()
	if err := c.checkWritable(subject); err != nil {
		return nil, err
	}
	all := c.state.versions(subject, true)
	live := slices.DeleteFunc(slices.Clone(all), func(e *entry) bool { return e.Deleted })
	switch {
	case len(all) == 0:
		return nil, subjectNotFound(subject)
	case permanent && len(live) > 0:
		return nil, fail(codeSubjectNotSoftDeleted, "Subject '%s' was not deleted first before being permanently deleted", subject)
	case !permanent && len(live) == 0:
		return nil, fail(codeSubjectSoftDeleted, "Subject '%s' was soft deleted.Set permanent=true to delete permanently", subject)
	}
	gone := live
	if permanent {
		gone = all
	}
	versions := make([]int, len(gone))
	for i, e := range gone {
		versions[i] = e.Version
		if err := c.checkUnreferenced(e, permanent); err != nil {
			return nil, err
		}
	}
	records := []record{{subjectKey(keyDeleteSubject, subject), encodeDeleteSubject(subject, versions[len(versions)-1])}}
	if permanent {
		records = nil
		for _, e := range slices.Backward(gone) {
			records = append(records, record{schemaKey(subject, e.Version), nil})
		}
	}
	return versions, c.removeLocked(ctx, append(records, c.settingsLocked(subject)...))
}

// deleteVersion does the same to one version, and returns its number.
func (c *core) deleteVersion(ctx context.Context, subject string, version int, permanent bool) (int, error) {
	if err := c.log.lock(ctx); err != nil {
		return 0, unavailable(err)
	}
	defer c.log.unlock()
	if err := c.checkWritable(subject); err != nil {
		return 0, err
	}
	if len(c.state.versions(subject, true)) == 0 {
		return 0, subjectNotFound(subject)
	}
	// The latest is the latest live one, or for a permanent delete the latest of all, as in Confluent's registry.
	e := c.version(subject, version, version != Latest || permanent)
	switch {
	case e == nil:
		return 0, versionNotFound(version)
	case permanent && !e.Deleted:
		return 0, fail(codeVersionNotSoftDeleted, "Subject '%s' Version %d was not deleted first before being permanently deleted", subject, e.Version)
	case !permanent && e.Deleted:
		return 0, fail(codeVersionSoftDeleted, "Subject '%s' Version %d was soft deleted.Set permanent=true to delete permanently", subject, e.Version)
	}
	if err := c.checkUnreferenced(e, permanent); err != nil {
		return 0, err
	}
	r := record{key: schemaKey(subject, e.Version)}
	if !permanent {
		gone := e.Schema
		gone.Deleted = true
		var err error
		if r.value, err = encodeSchema(&gone); err != nil {
			return 0, err
		}
	}
	records := []record{r}
	if len(c.state.versions(subject, permanent)) == 1 {
		records = append(records, c.settingsLocked(subject)...)
	}
	return e.Version, c.removeLocked(ctx, records)
}

// checkUnreferenced refuses to delete what other schemas need.
func (c *core) checkUnreferenced(e *entry, permanent bool) error {
	if len(c.state.referrers(e.Subject, e.Version, permanent)) == 0 {
		return nil
	}
	return fail(codeReferenceExists, "One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=%s,version=%d}.", e.Subject, e.Version)
}

// settingsLocked makes tombstones for a subject's own configuration and mode, which go with its last version.
func (c *core) settingsLocked(subject string) []record {
	var list []record
	if _, ok := c.state.mode(subject); ok {
		list = append(list, record{subjectKey(keyMode, subject), nil})
	}
	if _, ok := c.state.config(subject); ok {
		list = append(list, record{subjectKey(keyConfig, subject), nil})
	}
	return list
}

func (c *core) removeLocked(ctx context.Context, records []record) error {
	if err := c.log.writeLocked(ctx, records...); err != nil {
		return writeFailed(err)
	}
	return nil
}

// deleteContext forgets a context that has no schemas.
func (c *core) deleteContext(ctx context.Context, name string) error {
	if err := c.log.lock(ctx); err != nil {
		return unavailable(err)
	}
	defer c.log.unlock()
	if len(c.state.all(qualify(name, ""), true)) > 0 || name == defaultContext {
		return fail(codeContextNotEmpty, "The specified context '%s' is not empty.", name)
	}
	return c.removeLocked(ctx, []record{{contextKey(name), nil}})
}
