package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// signalError is the cause of a context that a signal ended.
type signalError struct{ signal syscall.Signal }

// Error says what happened to the work.
func (e *signalError) Error() string { return "interrupted by " + unix.SignalName(e.signal) }

// status returns the exit status for the signal, as in shells.
func (e *signalError) status() int { return signalStatus + int(e.signal) }

// sameSignal is the time within which a second signal counts as the first one: a terminal interrupts a whole process
// group, and the process that started this one passes its signal on.
const sameSignal = 500 * time.Millisecond

// untilSignal ends the context with a *signalError at the first signal and the process at the second; its children end
// with it. stop restores the signals.
func untilSignal(ctx context.Context, signals ...os.Signal) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, signals...)
	go func() {
		var first time.Time
		for s := range arrived {
			number, _ := s.(syscall.Signal)
			end := &signalError{number}
			switch {
			case first.IsZero():
				first = time.Now()
				cancel(end)
			case time.Since(first) > sameSignal:
				os.Exit(end.status())
			}
		}
	}()
	return ctx, func() {
		signal.Stop(arrived)
		close(arrived)
		cancel(nil)
	}
}

// signalOf returns the signal that ended a context, nil if none did.
func signalOf(ctx context.Context) *signalError {
	var end *signalError
	_ = errors.As(context.Cause(ctx), &end)
	return end
}

// hasTerminal reports whether the interrupt of a terminal is likely to reach this process and its children directly.
func hasTerminal() bool {
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if term.IsTerminal(int(f.Fd())) {
			return true
		}
	}
	return false
}
