package failpoint_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/leatstream/leat/streams/internal/failpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHitFiresOnceAtTheNthPass(t *testing.T) {
	boom := errors.New("boom")
	var s failpoint.Set
	s.Arm(failpoint.TxnEnded, 2, func() error { return boom })
	for i, want := range []error{nil, boom, nil} {
		if err := s.Hit(failpoint.TxnEnded); err != want {
			t.Errorf("pass %d: %v, want %v", i+1, err, want)
		}
	}
	if err := s.Hit(failpoint.CommitBegin); err != nil {
		t.Errorf("a point that is not armed: %v", err)
	}
	if err := (*failpoint.Set)(nil).Hit(failpoint.TxnEnded); err != nil {
		t.Errorf("nil set: %v", err)
	}
}

func TestFromEnvRefusesWhatItDoesNotKnow(t *testing.T) {
	for spec, ok := range map[string]bool{"": true, "txn-ended": true, "txn-ended:3": true, "nowhere": false, "txn-ended:0": false, "txn-ended:x": false} {
		t.Setenv(failpoint.Variable, spec)
		if _, err := failpoint.FromEnv(); (err == nil) != ok {
			t.Errorf("%q: %v", spec, err)
		}
	}
}
