package verify

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

// Print writes the sums, and whether they agree.
func (r Report) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	same := func(ok bool) string {
		if ok {
			return "ok"
		}
		return "DISAGREE"
	}
	row := func(what, sums string, ok bool) { fmt.Fprintf(t, "  %s\t%s\t%s\n", what, sums, same(ok)) }
	row("orders", fmt.Sprintf("%d accepted, %d decided: %d reserved + %d rejected", r.Orders, r.Decisions, r.Reserved, r.Rejected),
		r.Orders == r.Decisions && r.Orders == r.Reserved+r.Rejected)
	row("stock", fmt.Sprintf("%d delivered = %d on hand + %d reserved (%d sold)", r.Delivered, r.OnHand, r.Held, r.Sold),
		r.Delivered == r.OnHand+r.Held && r.Held == r.Sold)
	row("revenue", fmt.Sprintf("%s sold, %s booked, %s in windows", cents(r.Revenue), cents(r.Booked), cents(r.Windows)),
		r.Revenue == r.Booked && r.Revenue == r.Windows)
	row("mail", fmt.Sprintf("%d mails, %d of them sent again under the same Message-ID", r.Mails, r.Resent), r.Mails == r.Decisions)
	_ = t.Flush()
	if r.Republished > 0 {
		fmt.Fprintf(w, "  %d events were published twice and recognised by inventory\n", r.Republished)
	}
	if r.Foreign > 0 {
		fmt.Fprintf(w, "  %d records did not decode and were passed over; see topic %s\n", r.Foreign, shop.DeadLetters)
	}
	if r.Agrees() {
		fmt.Fprintln(w, "The books agree.")
		return
	}
	fmt.Fprintln(w, "The books DISAGREE:")
	for _, p := range r.Problems {
		fmt.Fprintln(w, "  "+p)
	}
}

func cents(minor int64) string { return fmt.Sprintf("%d.%02d EUR", minor/100, minor%100) }
