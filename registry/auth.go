package registry

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// User is someone who may use the REST API.
type User struct {
	// Name has no colon in it.
	Name, Password string
	// ReadOnly allows to read, to look schemas up and to check their compatibility, and nothing that changes anything.
	ReadOnly bool
}

// authorize checks the credentials of a request. Every name and password is compared, in a time that tells nothing about
// which of them is right.
func (s *Server) authorize(r *http.Request) error {
	if len(s.config.Users) == 0 {
		return nil
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
