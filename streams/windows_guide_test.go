package streams_test

import (
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// The program of docs/windows.md, so that the page stays true.

var (
	guidePayments = streams.Topic[string, int64]{Name: "payments", Key: serde.String, Value: serde.Int64}
	guideRates    = streams.Topic[string, int64]{Name: "rates", Key: serde.String, Value: serde.Int64}
	guideTooLate  = streams.Topic[string, int64]{Name: "too-late", Key: serde.String, Value: serde.Int64}
	guideLarge    = streams.Topic[streams.Windowed[string], int64]{Name: "large", Key: serde.Windowed(serde.String, time.Minute), Value: serde.Int64}
	guideTaken    = streams.WindowStore[string, int64]{Name: "taken"}
)

func windowsTopology() (*streams.Topology, error) {
	var b streams.Builder
	rates := b.Table(guideRates, streams.Store[string, int64]{Name: "rates", Versioned: time.Hour})
	euros := b.Stream(guidePayments).JoinTable(rates, func(_ string, cents, rate int64) (int64, error) {
		return cents * rate / 100, nil
	}, streams.TableJoin{Name: "convert", Grace: 10 * time.Second})
	minutes := euros.GroupByKey().WindowedBy(streams.Tumbling(time.Minute).Grace(5 * time.Second))
	minutes.Late().To(guideTooLate)
	minutes.Reduce(guideTaken, func(sum, cents int64) (int64, error) { return sum + cents, nil }).
		Filter(func(_ streams.Windowed[string], sum int64) bool { return sum >= 500 }).
		Suppress(streams.Suppression{Name: "large"}).
		To(guideLarge)
	return b.Build()
}

func TestWindowsGuide(t *testing.T) {
	top, err := windowsTopology()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top)
	at := func(seconds int64) streamstest.Option { return streamstest.At(time.Unix(seconds, 0)) }
	d.Send(guideRates, "USD", 50, at(0))
	d.Send(guidePayments, "USD", 1000, at(20))
	d.Send(guideRates, "USD", 60, at(15)) // later than the payment, but it held before
	d.Send(guidePayments, "GBP", 9000, at(25))
	d.Send(guidePayments, "USD", 100, at(100)) // the first ones have waited long enough
	d.Send(guidePayments, "USD", 200, at(120))
	d.Send(guidePayments, "USD", 300, at(10)) // for the join in time, for the minute too late
	d.Send(guidePayments, "USD", 1000, at(400))
	d.Send(guidePayments, "USD", 1000, at(1000)) // large too, so that it passes the filter and Suppress hears of the time
	d.Send(guidePayments, "USD", 0, at(2000))
	large := d.Read(guideLarge)
	if len(large) != 2 || large[0].Value != 600 || large[0].Key.Start.Unix() != 0 || large[1].Value != 600 || large[1].Key.Start.Unix() != 360 {
		t.Errorf("large minutes %+v, want 600 in the first and in the seventh", large)
	}
	if late := d.Read(guideTooLate); len(late) != 1 || late[0].Value != 150 {
		t.Errorf("late %+v, want the 150 cents of second 10", late)
	}
}
