package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

const (
	maxBody     = 64 << 10 // bytes of a request
	maxText     = 200      // bytes of a text field
	maxQuantity = 1000
	maxWait     = 30 * time.Second
)

// API serves the order intake:
//
//	POST /orders              201 accepted, 200 the same order again, 400 with the field that is wrong, 409 id reused
//	GET  /orders/{id}?wait=2s 200; with wait it answers as soon as the order is decided: read your writes
//	POST /restocks            202 a delivery for inventory
//	GET  /products            200 the catalogue
type API struct {
	Store     *Store
	Catalogue []shop.Listing
	Countries []string
	Logger    *slog.Logger
}

// Routes registers the API's handlers on mux.
func (a *API) Routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /orders", a.place)
	mux.HandleFunc("GET /orders/{id}", a.get)
	mux.HandleFunc("POST /restocks", a.restock)
	mux.HandleFunc("GET /products", a.products)
}

// OrderRequest is the body of POST /orders.
type OrderRequest struct {
	ClientOrderID string `json:"client_order_id"` // optional; makes a repeated request harmless
	Customer      string `json:"customer"`
	Email         string `json:"email"`
	Country       string `json:"country"`
	Product       string `json:"product"`
	Quantity      int64  `json:"quantity"`
}

// RestockRequest is the body of POST /restocks.
type RestockRequest struct {
	EventID  string `json:"event_id"` // optional; makes a repeated request harmless
	Product  string `json:"product"`
	Quantity int64  `json:"quantity"`
}

// fieldError says what is wrong with which field of a request.
type fieldError struct {
	Field   string `json:"field"` // empty: the body as a whole
	Problem string `json:"error"`
}

func (e *fieldError) Error() string { return e.Field + ": " + e.Problem }

func (a *API) place(w http.ResponseWriter, r *http.Request) {
	var req OrderRequest
	if err := decode(w, r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	o, err := a.order(req)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	saved, replay, err := a.Store.Place(r.Context(), req.ClientOrderID, o)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/orders/"+saved.ID)
	status := http.StatusCreated
	if replay {
		status = http.StatusOK
	}
	reply(w, status, saved)
}

// order checks a request and makes the order of it.
func (a *API) order(req OrderRequest) (shop.Order, error) {
	if len(req.ClientOrderID) > maxText {
		return shop.Order{}, &fieldError{"client_order_id", fmt.Sprintf("has %d bytes, at most %d", len(req.ClientOrderID), maxText)}
	}
	switch n := len(strings.TrimSpace(req.Customer)); {
	case n == 0:
		return shop.Order{}, &fieldError{"customer", "is missing"}
	case len(req.Customer) > maxText:
		return shop.Order{}, &fieldError{"customer", fmt.Sprintf("has %d bytes, at most %d", len(req.Customer), maxText)}
	}
	if len(req.Email) > maxText {
		return shop.Order{}, &fieldError{"email", fmt.Sprintf("has %d bytes, at most %d", len(req.Email), maxText)}
	}
	address, err := mail.ParseAddress(req.Email)
	if err != nil || address.Address != req.Email {
		return shop.Order{}, &fieldError{"email", "is not a mail address like ada@example.org"}
	}
	if !slices.Contains(a.Countries, req.Country) {
		return shop.Order{}, &fieldError{"country", "is not one of " + strings.Join(a.Countries, ", ")}
	}
	listing, err := a.listing(req.Product)
	if err != nil {
		return shop.Order{}, err
	}
	if err := checkQuantity(req.Quantity, maxQuantity); err != nil {
		return shop.Order{}, err
	}
	return shop.Order{
		Customer: req.Customer, Email: req.Email, Country: req.Country,
		Product: req.Product, Quantity: req.Quantity, Total: req.Quantity * listing.Price,
	}, nil
}

func (a *API) listing(sku string) (shop.Listing, error) {
	i := slices.IndexFunc(a.Catalogue, func(l shop.Listing) bool { return l.SKU == sku })
	if i < 0 {
		return shop.Listing{}, &fieldError{"product", "is not in the catalogue: see GET /products"}
	}
	return a.Catalogue[i], nil
}

func checkQuantity(n, most int64) error {
	if n < 1 || n > most {
		return &fieldError{"quantity", fmt.Sprintf("is %d, must be from 1 to %d", n, most)}
	}
	return nil
}

func (a *API) get(w http.ResponseWriter, r *http.Request) {
	var wait time.Duration
	if text := r.URL.Query().Get("wait"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > maxWait {
			a.fail(w, r, &fieldError{"wait", fmt.Sprintf("is not a duration from 0s to %v, like 2s", maxWait)})
			return
		}
		wait = d
	}
	o, err := a.Store.Await(r.Context(), r.PathValue("id"), wait)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	reply(w, http.StatusOK, o)
}

func (a *API) restock(w http.ResponseWriter, r *http.Request) {
	var req RestockRequest
	if err := decode(w, r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	if len(req.EventID) > maxText {
		a.fail(w, r, &fieldError{"event_id", fmt.Sprintf("has %d bytes, at most %d", len(req.EventID), maxText)})
		return
	}
	if _, err := a.listing(req.Product); err != nil {
		a.fail(w, r, err)
		return
	}
	if err := checkQuantity(req.Quantity, 1_000_000); err != nil {
		a.fail(w, r, err)
		return
	}
	saved, err := a.Store.Restock(r.Context(), req.EventID, req.Product, req.Quantity)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	reply(w, http.StatusAccepted, saved)
}

func (a *API) products(w http.ResponseWriter, _ *http.Request) {
	list := make([]shop.Product, len(a.Catalogue))
	for i, l := range a.Catalogue {
		list[i] = l.Product
	}
	reply(w, http.StatusOK, list)
}

// decode reads one JSON object. It asks for the JSON content type: a web page of another origin cannot send that
// without the browser asking first, and nobody answers.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &fieldError{"Content-Type", "must be application/json"}
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	var large *http.MaxBytesError
	switch {
	case err == nil:
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return &fieldError{"", "has more after the JSON object"}
		}
		return nil
	case errors.As(err, &kind) && kind.Field != "":
		return &fieldError{kind.Field, fmt.Sprintf("is a %s, must be a %s", kind.Value, jsonType(kind.Type.Kind().String()))}
	case errors.As(err, &syntax):
		return &fieldError{"", fmt.Sprintf("is not valid JSON at byte %d: %v", syntax.Offset, err)}
	case errors.As(err, &large):
		return &fieldError{"", fmt.Sprintf("is larger than %d bytes", large.Limit)}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return &fieldError{strings.Trim(name, `"`), "is not a field that is known here"}
	}
	return &fieldError{"", "is not a JSON object: " + err.Error()}
}

func jsonType(kind string) string {
	if strings.HasPrefix(kind, "int") {
		return "whole number"
	}
	return kind
}

func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	var field *fieldError
	switch {
	case errors.As(err, &field):
		if field.Field == "" {
			field = &fieldError{"body", field.Problem}
		}
		reply(w, http.StatusBadRequest, field)
	case errors.Is(err, ErrNotFound):
		reply(w, http.StatusNotFound, &fieldError{"id", err.Error()})
	case errors.Is(err, ErrConflict):
		reply(w, http.StatusConflict, &fieldError{"client_order_id", err.Error()})
	case errors.Is(err, context.Canceled):
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		a.Logger.Error("order intake", "path", r.URL.Path, "err", err)
		reply(w, http.StatusInternalServerError, &fieldError{"", "internal error"})
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone, if this fails
}
