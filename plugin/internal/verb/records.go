package verb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// A call holds the lock for milliseconds. If another waits longer than this, the holder hangs.
const lockTimeout = 60 * time.Second

// OpenStore opens the records of a plugin, with the lock that ADD, CHECK, DEL and GC of all its networks share. Without
// create it returns nil if nothing was ever recorded. If it does not get the lock within a minute, the error has code
// 11.
func OpenStore[T any](plugin string, create bool) (*record.Store[T], error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	s, err := record.Open[T](ctx, record.Options{Plugin: plugin, Create: create})
	switch {
	case errors.Is(err, fs.ErrNotExist) && !create:
		return nil, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, chain.TryAgain("%w: look for a process of the %s plugin that hangs", err, plugin)
	}
	return s, err
}

// Load returns the record that CHECK compares with. It is an error if there is none or if it cannot be read. The
// function look, unless it is nil, reads other records while the lock is held; CHECK examines the node without the
// lock.
func Load[T any](plugin string, a record.Attachment,
	look func(*record.Store[T], record.Entry[T]) error,
) (*record.Entry[T], error) {
	missing := fmt.Errorf("record of attachment %s is missing: delete the attachment and add it again", a)
	s, err := OpenStore[T](plugin, false)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, missing
	}
	e, err := s.Load(a)
	switch {
	case e == nil && err == nil:
		err = missing
	case err == nil && look != nil:
		err = look(s, *e)
	}
	return e, errors.Join(err, s.Close())
}

// Recordable returns, for STATUS, an error with code 50 if ADD cannot save a record of a network. It changes nothing.
func Recordable(plugin, network string) error {
	if err := record.Writable(record.Options{Plugin: plugin}, network); err != nil {
		return chain.NotAvailable("records of network %q cannot be written: %w", network, err)
	}
	return nil
}
