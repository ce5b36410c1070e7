package inventory

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/streams"
)

// API answers from the topology's own store, as of its last commit:
//
//	GET /stock            200 the stock of all products, of all instances
//	GET /stock/{product}  200 that of one, from the instance that has it; 404 there is none; 503 ask again
type API struct {
	Stock *streams.View[string, shop.Stock]
}

// Routes registers the API's handlers on mux.
func (a *API) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /stock", a.all)
	mux.HandleFunc("GET /stock/{product}", a.get)
}

func (a *API) get(w http.ResponseWriter, r *http.Request) {
	row, ok, err := a.Stock.Reading(r.Context(), streams.Reading{}).Get(r.PathValue("product"))
	switch {
	case err != nil:
		fail(w, err)
	case !ok:
		http.Error(w, "there is no such product", http.StatusNotFound)
	default:
		reply(w, row.Value)
	}
}

func (a *API) all(w http.ResponseWriter, r *http.Request) {
	stock := map[string]shop.Stock{}
	for row, err := range a.Stock.Reading(r.Context(), streams.Reading{}).All() {
		if err != nil {
			fail(w, err)
			return
		}
		stock[row.Key] = row.Value
	}
	reply(w, stock)
}

// fail answers 503 to what may pass: the store is being restored, or its task is on its way to another instance.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, streams.ErrNotReady) || errors.Is(err, streams.ErrUnavailable) {
		status = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), status)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked may be gone
}
