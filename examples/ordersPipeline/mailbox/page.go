package mailbox

import (
	"bytes"
	"html/template"
	"net/http"
	"strconv"
)

const shown = 100 // mails on the page

// Page serves the mailbox: the newest mails, and each by its id. It uses the stylesheet at /assets/shop.css.
type Page struct {
	Box *Box
}

// Routes registers the page on mux.
func (p *Page) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /mail", p.list)
	mux.HandleFunc("GET /mail/{id}", p.one)
}

func (p *Page) list(w http.ResponseWriter, r *http.Request) {
	mails, err := p.Box.Latest(r.Context(), shown)
	if err != nil {
		http.Error(w, "mailbox: cannot be read now", http.StatusInternalServerError)
		return
	}
	count, deliveries, err := p.Box.Counts(r.Context())
	if err != nil {
		http.Error(w, "mailbox: cannot be read now", http.StatusInternalServerError)
		return
	}
	render(w, listPage, map[string]any{"Mails": mails, "Count": count, "Again": deliveries - count, "Shown": shown})
}

func (p *Page) one(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	mails, err := p.Box.Get(r.Context(), id)
	switch {
	case err != nil:
		http.Error(w, "mailbox: cannot be read now", http.StatusInternalServerError)
	case len(mails) == 0:
		http.NotFound(w, r)
	default:
		render(w, mailPage, mails[0])
	}
}

func render(w http.ResponseWriter, t *template.Template, data any) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		http.Error(w, "mailbox: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes())
}

var listPage = template.Must(template.New("list").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="3"><title>Mailbox: {{.Count}} mails</title><link rel="stylesheet" href="/assets/shop.css"></head>
<body><header><h1>Mailbox</h1><nav><a href="/">Dashboard</a> <a href="/mail" aria-current="page">Mailbox</a></nav></header>
<main>
<p><b>{{.Count}}</b> mails{{if gt .Count .Shown}}, the newest {{.Shown}} of them below{{end}}. <b>{{.Again}}</b> were sent a second
time: mail cannot be sent exactly once, since a sender that dies between the server's answer and its own note does not know
of it. It sends again under the same Message-ID, by which every mail program shows one mail.</p>
<table><thead><tr><th>Received</th><th>To</th><th>Subject</th><th>Order</th><th class="n">Deliveries</th></tr></thead><tbody>
{{range .Mails}}<tr><td>{{.ReceivedAt.Format "2006-01-02 15:04:05.000"}}</td><td>{{.To}}</td><td><a href="/mail/{{.ID}}">{{.Subject}}</a></td>
<td><a href="/orders/{{.OrderID}}"><code>{{.OrderID}}</code></a></td><td class="n">{{.Deliveries}}</td></tr>
{{else}}<tr><td colspan="5">No mail yet: place an order.</td></tr>{{end}}
</tbody></table></main></body></html>
`))

var mailPage = template.Must(template.New("mail").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Subject}}</title><link rel="stylesheet" href="/assets/shop.css"></head>
<body><header><h1>{{.Subject}}</h1><nav><a href="/">Dashboard</a> <a href="/mail">Mailbox</a></nav></header>
<main><dl class="mail"><dt>From</dt><dd>{{.From}}</dd><dt>To</dt><dd>{{.To}}</dd><dt>Received</dt><dd>{{.ReceivedAt.Format "2006-01-02 15:04:05.000"}} UTC</dd>
<dt>Message-ID</dt><dd><code>{{.MessageID}}</code></dd><dt>Order</dt><dd><a href="/orders/{{.OrderID}}"><code>{{.OrderID}}</code></a></dd>
<dt>Deliveries</dt><dd>{{.Deliveries}}</dd></dl><pre class="letter">{{.Body}}</pre></main></body></html>
`))
