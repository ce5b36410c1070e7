package registry

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// User is someone who may use the REST API.
type User struct {
	// Name has no colon in it.
	Name, Password string
	// ReadOnly allows to read, to look schemas up and to check their compatibility, and nothing that changes anything.
	ReadOnly bool
}

// authorize checks where a request comes from, and its credentials. A browser sends what a page of another site asks for, with
// the credentials that it has for this one: such a request changes nothing here (GET and HEAD are let through, whose answers the
// browser keeps from the page). Every name and password is compared, in a time that tells nothing about
// which of them is right.
func (s *Server) authorize(r *http.Request) error {
	if http.NewCrossOriginProtection().Check(r) != nil {
		return fail(codeForbidden, "The request comes from a page of another site (Origin %.100q)", r.Header.Get("Origin"))
	}
	if len(s.config.Users) == 0 {
		return s.rightName(r)
	}
	name, password, given := r.BasicAuth()
	gotName, gotPassword := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
	allowed, readOnly := false, false
	for _, u := range s.config.Users {
		n, p := sha256.Sum256([]byte(u.Name)), sha256.Sum256([]byte(u.Password))
		if subtle.ConstantTimeCompare(gotName[:], n[:])&subtle.ConstantTimeCompare(gotPassword[:], p[:]) == 1 {
			allowed, readOnly = true, u.ReadOnly
		}
	}
	switch {
	case !given || !allowed:
		return fail(http.StatusUnauthorized, "Unauthorized")
	case readOnly && changes(r):
		return fail(codeForbidden, "User %s is not allowed to make changes", name)
	}
	return nil
}

// rightName refuses a request that came to this machine only, without credentials, under a name that is not this machine's: it is of a
// page in a browser here, whose name was made to resolve to this address (DNS rebinding), and which the browser would let read the
// answer. Addresses are let through, and so is what comes from other machines: they ask by names that only they know.
func (s *Server) rightName(r *http.Request) error {
	to, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || s.listener == nil {
		return nil
	}
	if at, err := netip.ParseAddrPort(to.String()); err != nil || !at.Addr().IsLoopback() {
		return nil
	}
	host := hostOf(r.Host)
	if host == "" || net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") || host == hostOf(s.config.Listen) {
		return nil
	}
	if own, err := os.Hostname(); err == nil && host == hostOf(own) {
		return nil
	}
	return fail(codeForbidden, "The registry does not go by the name %.100q: ask it as localhost or by its address, or set Config.Users (--users-file)", host)
}

// hostOf is the host of "host:port" or "host", as names are compared.
func hostOf(addr string) string {
	if h, _, err := net.SplitHostPort(addr); err == nil {
		addr = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(addr, "[]"), "."))
}

// changes says whether a request may change something. Looking a schema up and checking it are POSTs too.
func changes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return false
	case http.MethodPost:
		parts := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
		return parts[0] != "compatibility" && len(parts) != 2 && parts[0] != ""
	}
	return true
}
