package quota

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Kafka's order, and what is counted together.
func TestTheMostSpecialQuotaCounts(t *testing.T) {
	order := []Entity{
		{Named("u"), Named("c")}, {Named("u"), Everyone()}, {Named("u"), Part{}}, {Everyone(), Named("c")}, {Everyone(), Everyone()}, {Everyone(), Part{}},
		{Part{}, Named("c")}, {Part{}, Everyone()},
	}
	tab := NewTable()
	if tab.Limit(ProduceRate, "u", "c") != 0 {
		t.Error("a quota out of nothing")
	}
	for i := len(order) - 1; i >= 0; i-- {
		tab.Set(order[i], Limits{ProduceRate: float64(i + 1), ConsumeRate: 5})
		if got := tab.Limit(ProduceRate, "u", "c"); got != float64(i+1) {
			t.Errorf("%s: %v", order[i].Key(), got)
		}
		if e, err := ParseEntity(order[i].Key()); err != nil || e != order[i] {
			t.Errorf("%s is read as %v, %v", order[i].Key(), e, err)
		}
	}
	if got := tab.Limit(ProduceRate, "other", "d"); got != 5 { // user and client by default
		t.Errorf("default: %v", got)
	}
	for _, e := range order {
		tab.Set(e, nil)
	}
	if tab.All() != nil {
		t.Error("quotas that were removed are still there")
	}
}

func TestUse(t *testing.T) {
	tab, now := NewTable(), time.Unix(1000, 0)
	tab.Set(Entity{User: Everyone()}, Limits{ProduceRate: 1000})
	use := func(user string, amount float64) time.Duration { return tab.Use(ProduceRate, user, "any", amount, now) }
	if d := use("a", 1000); d != 0 {
		t.Errorf("within the window: %v", d)
	}
	if d := use("a", 500); d != 500*time.Millisecond {
		t.Errorf("half a second's worth beyond: %v", d)
	}
	if d := use("b", 10); d != 0 {
		t.Errorf("another user pays: %v", d)
	}
	now = now.Add(500 * time.Millisecond)
	if d := use("a", 0); d != 0 {
		t.Errorf("after the wait: %v", d)
	}
	now = now.Add(time.Hour)
	if d := use("a", 2000); d != time.Second {
		t.Errorf("quiet for an hour saves more than a window: %v", d)
	}
	if d := use("a", 1e9); d != longest {
		t.Errorf("longest wait: %v", d)
	}
	now = now.Add(longest)
	if d := use("a", 0); d != longest {
		t.Errorf("a debt is forgotten: %v", d)
	}
	tab.Set(Entity{ClientID: Everyone()}, Limits{RequestPercent: 0.001})
	if d := tab.Use(RequestPercent, "u", "a", 1, now); d != longestRequest {
		t.Errorf("longest wait for the time of requests: %v", d)
	}
	now = now.Add(requestMemory)
	if d := tab.Use(RequestPercent, "u", "a", 0, now); d != 0 {
		t.Errorf("the time of requests is remembered for too long: %v", d)
	}
}

// Client ids are the clients' to choose: they take no memory without end.
func TestManyClients(t *testing.T) {
	tab, now := NewTable(), time.Unix(1000, 0)
	tab.Set(Entity{ClientID: Everyone()}, Limits{ConsumeRate: 1})
	for i := range 3 * maxClients {
		tab.Use(ConsumeRate, "u", fmt.Sprint(i), 2, now)
	}
	if n := len(tab.usage); n > maxClients+1 {
		t.Errorf("%d clients are remembered", n)
	}
	now = now.Add(2 * time.Hour)
	if d := tab.Use(ConsumeRate, "u", "new", 0.5, now); d != 0 || len(tab.usage) > 1 {
		t.Errorf("%v, %d clients", d, len(tab.usage))
	}
}

func TestCheck(t *testing.T) {
	if err := Check(ProduceRate, 1); err != nil {
		t.Error(err)
	}
	nan := 0.0
	for _, v := range []float64{0, -1, nan / nan} {
		if Check(ProduceRate, v) == nil {
			t.Errorf("%v is a quota", v)
		}
	}
	if Check("controller_mutation_rate", 1) == nil {
		t.Error("a quota that nobody enforces is taken")
	}
}
