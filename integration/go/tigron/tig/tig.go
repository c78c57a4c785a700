// Package tig holds the one type that nerdctl's program names of its test framework.
package tig

// T is what a test offers.
type T interface {
	Helper()
	FailNow()
	Fail()
	Log(args ...any)
	Name() string
	TempDir() string
}
