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

// A call holds the lock for milliseconds; who waits longer than this stands behind one that hangs.
const lockTimeout = 60 * time.Second

// OpenStore opens the records of a plugin, with the lock that ADD, CHECK, DEL and GC of all its networks share. Without
// create it returns nil where nothing was ever recorded. Where the lock is not to be had in a minute the error has code
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

// Load returns the record that CHECK compares with. That there is none, or one that cannot be read, is an error. Look,
// where it is not nil, looks at other records while the lock is held; it is not held while CHECK looks at the node.
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

// Recordable says with code 50 why ADD cannot save a record of a network, for STATUS. It changes nothing.
func Recordable(plugin, network string) error {
	if err := record.Writable(record.Options{Plugin: plugin}, network); err != nil {
		return chain.NotAvailable("records of network %q cannot be written: %w", network, err)
	}
	return nil
}
