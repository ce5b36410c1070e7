package registry

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A context is a name space for subjects and ids. A subject of another context than the default one is spelled
// ":.context:subject", and ":.context:" alone is the context itself, as a scope of configuration and mode.
const (
	defaultContext = "."
	// globalContext is the scope above all contexts; it has configuration and mode, and no subjects.
	globalContext = ":.__GLOBAL:"
	// everyContext as a prefix of subjects stands for those of every context.
	everyContext = ":*:"
)

// splitSubject tells the context of a subject, ".orders" for example, and its name within.
func splitSubject(subject string) (context, name string) {
	rest, ok := strings.CutPrefix(subject, ":.")
	if !ok {
		return defaultContext, subject
	}
	context, name, ok = strings.Cut(rest, ":")
	if !ok {
		return defaultContext, subject
	}
	return "." + context, name
}

// qualify is the subject called name in a context.
func qualify(context, name string) string {
	if context == defaultContext {
		return name
	}
	return ":" + context + ":" + name
}

// canonicalSubject spells a subject of the default context without it.
func canonicalSubject(subject string) string { return qualify(splitSubject(subject)) }

// scopes are where a subject's configuration and mode are looked for, in order. The empty scope is what applies to the
// whole default context.
func scopes(subject string) []string {
	context, _ := splitSubject(subject)
	list := []string{subject, qualify(context, ""), globalContext}
	return slices.Compact(list)
}

// cleanContext reads a context as it stands in a path: ".orders", ":.orders:" or ":.:".
func cleanContext(text string) (string, error) {
	name := strings.TrimPrefix(strings.TrimPrefix(text, ":"), ".")
	name = strings.TrimSuffix(name, ":")
	if strings.ContainsAny(name, ":") {
		return "", fail(http.StatusBadRequest, "Context name cannot contain a colon: %s", text)
	}
	return "." + name, nil
}

// rewriteContext turns /contexts/{context}/… into the path that means the same with qualified subjects.
func rewriteContext(r *http.Request) error {
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if len(parts) < 3 || parts[0] != "contexts" {
		return nil
	}
	text, err := url.PathUnescape(parts[1])
	if err != nil {
		return fail(http.StatusBadRequest, "HTTP 400 Bad Request")
	}
	context, err := cleanContext(text)
	if err != nil {
		return err
	}
	parts = parts[2:]
	query := r.URL.Query()
	in := func(subject string) string {
		if strings.HasPrefix(subject, ":.") {
			return subject
		}
		return qualify(context, subject)
	}
	at := -1 // the part that is a subject
	switch parts[0] {
	case "subjects", "config", "mode":
		at = 1
	case "compatibility":
		at = 2
	case "schemas":
		if len(parts) > 1 {
			query.Set("subject", in(query.Get("subject")))
		}
	}
	switch {
	case at == 1 && len(parts) == 1 && parts[0] != "subjects":
		if context != defaultContext {
			parts = append(parts, "")
		}
	case len(parts) == 1:
		query.Set("subjectPrefix", in(query.Get("subjectPrefix")))
	}
	if at > 0 && at < len(parts) {
		subject, err := url.PathUnescape(parts[at])
		if err != nil {
			return fail(http.StatusBadRequest, "HTTP 400 Bad Request")
		}
		parts[at] = url.PathEscape(in(subject))
	}
	u := *r.URL
	u.RawPath = "/" + strings.Join(parts, "/")
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return fail(http.StatusBadRequest, "HTTP 400 Bad Request")
	}
	u.RawQuery = query.Encode()
	r.URL = &u
	return nil
}
