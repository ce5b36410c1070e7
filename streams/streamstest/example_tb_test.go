package streamstest_test

import (
	"context"
	"fmt"
	"testing"
)

// exampleTest stands for a test in an example: it prints, and ends when it is told to.
type exampleTest struct {
	testing.TB
	cleanups []func()
}

func exampleTB() testing.TB { return &exampleTest{} }

func (*exampleTest) Helper()                  {}
func (*exampleTest) Context() context.Context { return context.Background() }

func (e *exampleTest) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }

func (*exampleTest) Logf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (*exampleTest) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (*exampleTest) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (*exampleTest) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func endExample(t testing.TB) {
	e := t.(*exampleTest)
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
}
