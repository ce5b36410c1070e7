package query

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Source is the instance that a Server answers for. Its methods are called from many goroutines.
type Source interface {
	// Describe says what the instance is and has. With counts the stores' rows are counted.
	Describe(counts bool) Instance
	// Topology is a picture of it: as text, dot, mermaid or json; false: it knows no such.
	Topology(as string) (string, bool)
	// Health says whether the instance is alive, and whether everything that it was given works.
	Health() (alive, ready bool)
	// Read yields the rows that a request asks for, in the order of a Router, and returns the count of Count. Errors: a
	// *Failure, or one that is told as CodeFailed.
	Read(ctx context.Context, r *Request, yield func(Row) bool) (count int64, err error)
	SetPaused(paused bool)
}

// Limits of a server.
const (
	maxRequest   = 1 << 20           // bytes of a request's body
	maxQueries   = 256               // at a time
	maxQueryTime = 10 * time.Minute  // of one query, its rows included
	writeTime    = 30 * time.Second  // for the rows that fit into buffers
	headerTime   = 5 * time.Second   // to read a request's head
	readTime     = 30 * time.Second  // to read a request
	idleTime     = 120 * time.Second // of a connection between requests
	maxHeader    = 32 << 10
)

// TimeoutHeader says how long the asker waits, in milliseconds.
const TimeoutHeader = "Leat-Timeout-Ms"

// AppHeader names the application whose instance is meant, escaped as in a URL's query. Addresses are used again: where an
// instance has been, one of another application may answer, which has stores of the same names.
const AppHeader = "Leat-App"

// Server answers for one instance.
type Server struct {
	source Source
	app    string
	token  string
	hosts  []string // under which it may be asked without a token; nil: any
	cross  *http.CrossOriginProtection
	slots  chan struct{}
	mux    *http.ServeMux
}

// NewServer returns a handler for an instance of an application. With a token every request but those for health must carry it: Authorization: Bearer TOKEN.
// Without one it refuses what a browser sends for a page of another site.
func NewServer(source Source, app, token string) *Server {
	s := &Server{source: source, app: app, token: token, cross: http.NewCrossOriginProtection(), slots: make(chan struct{}, maxQueries), mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /livez", s.livez)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.HandleFunc("GET /v1/instance", s.guarded(s.instance))
	s.mux.HandleFunc("GET /v1/topology", s.guarded(s.topology))
	s.mux.HandleFunc("POST /v1/query", s.guarded(s.query))
	s.mux.HandleFunc("POST /v1/pause", s.guarded(s.pause(true)))
	s.mux.HandleFunc("POST /v1/resume", s.guarded(s.pause(false)))
	return s
}

// Hosts says under which names a server without a token may be asked, besides localhost and addresses: a page whose name
// resolves to the server's address (DNS rebinding) asks under another. Call it before the server serves.
func (s *Server) Hosts(names ...string) *Server {
	s.hosts = append([]string{"localhost"}, names...)
	return s
}

// trusted says what is wrong with where a request comes from, or goes to.
func (s *Server) trusted(r *http.Request) error {
	if err := s.cross.Check(r); err != nil {
		return Fail(CodeForbidden, "the request comes from a page of another site (Origin %.100q): set Config.Queries.Token and send it, if that is meant", r.Header.Get("Origin"))
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	known := func(name string) bool { return strings.EqualFold(name, host) }
	if s.hosts == nil || host == "" || net.ParseIP(host) != nil || slices.ContainsFunc(s.hosts, known) {
		return nil
	}
	return Fail(CodeForbidden, "the instance does not go by the name %.100q: ask it by its address, make the name that of Config.Queries.Advertise, or set Config.Queries.Token", host)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// HTTP returns a server with the handler and its limits, for a listener of the caller's.
func (s *Server) HTTP() *http.Server {
	return &http.Server{Handler: s, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader}
}

// guarded lets through who has the token; where there is none, who does not come from a stranger's page.
func (s *Server) guarded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if meant := r.Header.Get(AppHeader); meant != "" && meant != url.QueryEscape(s.app) {
			fail(w, Fail(CodeNotHere, "an instance of another application answers under this address now"))
			return
		}
		if s.token != "" {
			given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				fail(w, Fail(CodeUnauthorized, "the request does not carry the application's token"))
				return
			}
		} else if err := s.trusted(r); err != nil {
			fail(w, err)
			return
		}
		h(w, r)
	}
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	if alive, _ := s.source.Health(); !alive {
		http.Error(w, "the application has ended", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// readiness is what /readyz says.
type readiness struct {
	Ready    bool           `json:"ready"`
	State    string         `json:"state"`
	Paused   bool           `json:"paused"`
	Restored float64        `json:"restored_percent"`
	Tasks    map[string]int `json:"tasks"`
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	d := s.source.Describe(false)
	_, ready := s.source.Health()
	out := readiness{Ready: ready, State: d.State, Paused: d.Paused, Restored: d.Restored, Tasks: map[string]int{}}
	for _, t := range d.Tasks {
		out.Tasks[t.Role]++
	}
	code := http.StatusOK
	if !ready {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, out)
}

func (s *Server) instance(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, s.source.Describe(r.URL.Query().Has("counts")))
}

func (s *Server) topology(w http.ResponseWriter, r *http.Request) {
	text, ok := s.source.Topology(r.URL.Query().Get("as"))
	if !ok {
		fail(w, Fail(CodeBad, "as=%.20q: want text, dot, mermaid or json", r.URL.Query().Get("as")))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text)
}

func (s *Server) pause(paused bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.source.SetPaused(paused)
		answer(w, http.StatusOK, struct {
			Paused bool `json:"paused"`
		}{paused})
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // whoever is gone needs no answer
}

// statuses are the HTTP statuses of failures.
var statuses = map[string]int{
	CodeNotHere: http.StatusMisdirectedRequest, CodeNotReady: http.StatusServiceUnavailable, CodeBusy: http.StatusTooManyRequests,
	CodeNoStore: http.StatusNotFound, CodeBad: http.StatusBadRequest, CodeUnauthorized: http.StatusUnauthorized,
	CodeForbidden: http.StatusForbidden,
	CodeTimeout:   http.StatusGatewayTimeout, CodeFailed: http.StatusInternalServerError,
}

func fail(w http.ResponseWriter, err error) {
	f := failure(err)
	answer(w, statuses[f.Code], line{Error: f})
}

// failure is err as it crosses the wire.
func failure(err error) *Failure {
	var f *Failure
	switch {
	case errors.As(err, &f):
		return &Failure{Code: f.Code, Text: err.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Failure{Code: CodeTimeout, Text: err.Error()}
	}
	return &Failure{Code: CodeFailed, Text: err.Error()}
}

func (s *Server) query(w http.ResponseWriter, r *http.Request) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		fail(w, Fail(CodeBusy, "the instance answers %d queries already", maxQueries))
		return
	}
	var req Request
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		fail(w, Fail(CodeBad, "the request cannot be read: %v", err))
		return
	}
	limit := maxQueryTime
	if ms := r.Header.Get(TimeoutHeader); ms != "" {
		var n int64
		if _, err := fmt.Sscan(ms, &n); err == nil && n > 0 {
			limit = min(limit, time.Duration(n)*time.Millisecond)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	s.rows(ctx, w, &req)
}

// rows writes an answer. What fails before the first row has a status of its own.
func (s *Server) rows(ctx context.Context, w http.ResponseWriter, req *Request) {
	const stride = 128 // rows between two looks at the clock
	out := bufio.NewWriterSize(w, 32<<10)
	rc, enc := http.NewResponseController(w), json.NewEncoder(out)
	n := 0
	var broken error
	patience := func() { _ = rc.SetWriteDeadline(time.Now().Add(writeTime)) } // the writer of a test may have none
	defer func() { _, _ = rc.Flush(), rc.SetWriteDeadline(time.Time{}) }()
	count, err := s.source.Read(ctx, req, func(row Row) bool {
		if n == 0 {
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		if n%stride == 0 {
			patience()
		}
		n++
		broken = enc.Encode(line{Row: &row})
		return broken == nil && ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	patience()
	switch {
	case broken != nil:
		return
	case err != nil && n == 0:
		fail(w, err)
		return
	}
	last := line{Done: err == nil, Count: count}
	if err != nil {
		last.Error = failure(err)
	}
	if enc.Encode(last) == nil {
		_ = out.Flush()
	}
}
