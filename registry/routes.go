package registry

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// handler answers one request with a value that becomes JSON, or with text that is sent as it is.
type handler func(c *core, r *http.Request) (any, error)

// rawText is an answer that is not JSON-quoted, noContent one without a body.
type (
	rawText   string
	noContent struct{}
)

// routes is the REST API. One file per family has the handlers: rest_schemas.go, rest_subjects.go, rest_settings.go.
var routes = []struct {
	method, pattern string
	handle          handler
}{
	{"GET", "/{$}", root},
	{"POST", "/{$}", root},

	{"GET", "/schemas", listSchemas},
	{"GET", "/schemas/types", listTypes},
	{"GET", "/schemas/ids/{id}", getByID},
	{"GET", "/schemas/ids/{id}/schema", getTextByID},
	{"GET", "/schemas/ids/{id}/subjects", getSubjectsByID},
	{"GET", "/schemas/ids/{id}/versions", getVersionsByID},
	{"GET", "/schemas/guids/{guid}", getByGUID},
	{"GET", "/schemas/guids/{guid}/ids", getIDsByGUID},

	{"GET", "/subjects", listSubjects},
	{"POST", "/subjects/{subject}", lookupSchema},
	{"DELETE", "/subjects/{subject}", deleteSubject},
	{"GET", "/subjects/{subject}/metadata", getByMetadata},
	{"GET", "/subjects/{subject}/versions", listVersions},
	{"POST", "/subjects/{subject}/versions", registerSchema},
	{"GET", "/subjects/{subject}/versions/{version}", getVersion},
	{"DELETE", "/subjects/{subject}/versions/{version}", deleteVersion},
	{"GET", "/subjects/{subject}/versions/{version}/schema", getVersionText},
	{"GET", "/subjects/{subject}/versions/{version}/referencedby", getReferrers},
	{"POST", "/subjects/{subject}/versions/{version}/tags", tagVersion},

	{"POST", "/compatibility/subjects/{subject}/versions", checkAll},
	{"POST", "/compatibility/subjects/{subject}/versions/{version}", checkOne},

	{"GET", "/config", getConfig},
	{"PUT", "/config", putConfig},
	{"DELETE", "/config", removeConfig},
	{"GET", "/config/{subject}", getConfig},
	{"PUT", "/config/{subject}", putConfig},
	{"DELETE", "/config/{subject}", removeConfig},
	{"GET", "/mode", getMode},
	{"PUT", "/mode", putMode},
	{"GET", "/mode/{subject}", getMode},
	{"PUT", "/mode/{subject}", putMode},
	{"DELETE", "/mode", removeMode},
	{"DELETE", "/mode/{subject}", removeMode},

	{"GET", "/contexts", listContexts},
	{"DELETE", "/contexts/{context}", removeContext},
	{"GET", "/v1/metadata/id", getClusterID},
	{"GET", "/v1/metadata/version", getServerVersion},
	{"GET", "/v1/metadata/deployment", getDeployment},
}

// produced are the content types of answers, with the server's own preference.
var produced = []struct {
	name    string
	quality float64
}{
	{"application/vnd.schemaregistry.v1+json", 1},
	{"application/vnd.schemaregistry+json", 0.9},
	{"application/json", 0.5},
}

// newHandler wires the table to a server.
func newHandler(s *Server) http.Handler {
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.HandleFunc(route.method+" "+route.pattern, func(w http.ResponseWriter, r *http.Request) {
			s.answer(w, r, route.handle)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stripSlash(r)
		err := rewriteContext(r)
		if denied := s.authorize(r); denied != nil {
			err = denied
		}
		if err != nil {
			e := s.asError(r, err)
			if e.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="schema registry", charset="UTF-8"`)
			}
			writeJSON(w, produced[0].name, e.Status, s.errorBody(e))
			return
		}
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		// The mux answers 404 or 405 in its own words: keep the status, say it in Confluent's.
		p := probe{header: make(http.Header)}
		mux.ServeHTTP(&p, r)
		if allow := p.header.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
		}
		status := p.status
		if status < http.StatusBadRequest { // it would redirect to a path without empty or dotted parts
			status = http.StatusNotFound
		}
		writeJSON(w, produced[0].name, status, s.errorBody(fail(status, "HTTP %d %s", status, http.StatusText(status))))
	})
}

// probe notes what the mux would answer.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) WriteHeader(status int)      { p.status = status }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }

// stripSlash takes one slash off the end of the path: Java's client posts to ".../versions/".
func stripSlash(r *http.Request) {
	if len(r.URL.Path) < 2 || !strings.HasSuffix(r.URL.EscapedPath(), "/") {
		return
	}
	u := *r.URL
	u.RawPath = strings.TrimSuffix(u.EscapedPath(), "/")
	u.Path = strings.TrimSuffix(u.Path, "/")
	r.URL = &u
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, h handler) {
	contentType, ok := negotiate(r.Header.Values("Accept"))
	result, err := s.call(w, r, h, ok)
	if err == nil {
		switch result := result.(type) {
		case rawText:
			setHeaders(w, contentType)
			_, _ = io.WriteString(w, string(result)) // the client may be gone: nobody is left to tell
		case noContent:
			w.WriteHeader(http.StatusNoContent)
		default:
			writeJSON(w, contentType, http.StatusOK, result)
		}
		return
	}
	e := s.asError(r, err)
	writeJSON(w, contentType, e.Status, s.errorBody(e))
}

// call checks what is common to all requests, then calls the handler.
func (s *Server) call(w http.ResponseWriter, r *http.Request, h handler, acceptable bool) (any, error) {
	if !acceptable {
		return nil, fail(http.StatusNotAcceptable, "HTTP 406 Not Acceptable")
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if !consumes(r.Header.Get("Content-Type")) {
			return nil, fail(http.StatusUnsupportedMediaType, "HTTP 415 Unsupported Media Type")
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.config.MaxBodyBytes)
	}
	c, err := s.ready()
	if err != nil {
		return nil, err
	}
	return h(c, r)
}

// asError is err as an answer. What was not foreseen is logged and told as a server error.
func (s *Server) asError(r *http.Request, err error) *Error {
	var incompatible *IncompatibleError
	if errors.As(err, &incompatible) {
		e := fail(http.StatusConflict, "%s", incompatible.message())
		if incompatible.Fix != "" {
			e.Message += ". Fix: " + incompatible.Fix
		}
		return e
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = fail(http.StatusInternalServerError, "Internal Server Error")
		e.cause = err
	}
	if e.Status >= http.StatusInternalServerError && e.Status != http.StatusServiceUnavailable {
		s.config.Logger.Error("a request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	return e
}

// errorResponse is the body of every answer that is not a success.
type errorResponse struct {
	Code    int    `json:"error_code"`
	Message string `json:"message"`
}

// errorBody is the body for an error. Confluent's registries answer an incompatible schema with error_code 409 until the
// end of 2025, and with 40901 since; clients of either age read the first.
func (s *Server) errorBody(e *Error) errorResponse {
	if e.Code == http.StatusConflict && s.config.Code40901 {
		return errorResponse{40901, e.Message}
	}
	return errorResponse{e.Code, e.Message}
}

func setHeaders(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-XSS-Protection", "1; mode=block")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Vary", "Accept-Encoding, User-Agent")
}

func writeJSON(w http.ResponseWriter, contentType string, status int, v any) {
	b, err := marshal(v)
	if err != nil { // every answer is made of strings and numbers
		status, b = http.StatusInternalServerError, []byte(`{"error_code":500,"message":"Internal Server Error"}`)
	}
	setHeaders(w, contentType)
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may be gone: nobody is left to tell
}

// negotiate chooses the content type of the answer. Java's URLConnection accepts "*; q=.2", which means anything.
func negotiate(accept []string) (string, bool) {
	if len(accept) == 0 {
		return produced[0].name, true
	}
	best, score := produced[0].name, 0.0
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		name = strings.ToLower(strings.TrimSpace(name))
		quality := 1.0
		for _, p := range strings.Split(params, ";") {
			if v, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
				if q, err := strconv.ParseFloat(v, 64); err == nil {
					quality = q
				}
			}
		}
		for _, t := range produced {
			if name != t.name && name != "*/*" && name != "*" && name != "application/*" && name != "" {
				continue
			}
			if q := quality * t.quality; q > score {
				best, score = t.name, q
			}
		}
	}
	return best, score > 0
}

func consumes(contentType string) bool {
	if contentType == "" {
		return true
	}
	name, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	for _, t := range produced {
		if name == t.name {
			return true
		}
	}
	return name == "application/octet-stream"
}

// body reads a request's JSON. Members that are not known are ignored, as Confluent's registry ignores them.
func body(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	err := d.Decode(v)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fail(http.StatusRequestEntityTooLarge, "The request's body is larger than %d bytes", large.Limit)
	case errors.Is(err, io.EOF):
		return fail(http.StatusBadRequest, "The request has no body")
	case err != nil:
		return fail(http.StatusBadRequest, "The request's body is not the JSON that is expected: %v", err)
	}
	return nil
}

// flag reads a boolean of the query as Java does: "true" in any case, and anything else is false.
func flag(q url.Values, name string) bool { return strings.EqualFold(q.Get(name), "true") }

// page cuts a list as the query's offset and limit ask for; limits out of range mean the largest.
func page[T any](q url.Values, list []T) []T {
	const most = 1000
	offset, _ := strconv.Atoi(q.Get("offset"))
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit <= 0 || limit > most {
		limit = most
	}
	list = list[min(max(0, offset), len(list)):]
	return list[:min(limit, len(list))]
}

// version reads a version number of the path.
func version(r *http.Request) (int, error) {
	text := r.PathValue("version")
	if strings.EqualFold(text, "latest") {
		return Latest, nil
	}
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil || v == 0 || v < Latest {
		return 0, fail(codeInvalidVersion, "The specified version '%s' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"", text)
	}
	return int(v), nil
}
