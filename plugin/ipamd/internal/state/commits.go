package state

import (
	"context"
	"sync"
	"time"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// Saver stores a state durably.
type Saver interface {
	Save(datastore.State) error
}

// Source returns a state and its version, as datastore.Store does.
type Source interface {
	Snapshot() (datastore.State, uint64)
}

// Write describes a finished write.
type Write struct {
	Duration time.Duration
	Callers  int // how many callers waited for it
	Err      error
}

// Options are the settings of Commits.
type Options struct {
	Source Source
	Saver  Saver
	// Observe is called after each write; nil means that nothing is called. It must not call Commits.
	Observe func(Write)
}

// Commits makes versions of a source durable, many in one write: callers that come during a write wait for it, and then
// share the next one. It is safe for concurrent use.
type Commits struct {
	opts Options

	mu      sync.Mutex
	durable uint64
	writing bool
	next    *batch // not begun yet
}

// batch is a write and the callers that wait for it.
type batch struct {
	done    chan struct{}
	callers int
	err     error
}

// NewCommits returns Commits for a source whose version 0 is durable.
func NewCommits(opts Options) *Commits {
	if opts.Observe == nil {
		opts.Observe = func(Write) {}
	}
	return &Commits{opts: opts}
}

// Commit returns nil once version is durable, or else the error of the write. After an error the state in memory is
// newer than the one on disk, and the next Commit tries to write all of it.
//
// If ctx ends first, Commit returns its error, but the version may still become durable.
func (c *Commits) Commit(ctx context.Context, version uint64) error {
	c.mu.Lock()
	if version <= c.durable {
		c.mu.Unlock()
		return nil
	}
	// A running write may have taken its snapshot before this version, so wait for the next one.
	if c.next == nil {
		c.next = &batch{done: make(chan struct{})}
	}
	mine := c.next
	mine.callers++
	if !c.writing {
		c.writing = true
		go c.write()
	}
	c.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// write writes until nobody waits any more.
func (c *Commits) write() {
	for {
		c.mu.Lock()
		b := c.next
		c.next = nil
		if b == nil {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()

		start := time.Now()
		snapshot, version := c.opts.Source.Snapshot()
		b.err = c.opts.Saver.Save(snapshot)
		c.opts.Observe(Write{Duration: time.Since(start), Callers: b.callers, Err: b.err})
		if b.err == nil {
			c.mu.Lock()
			c.durable = max(c.durable, version)
			c.mu.Unlock()
		}
		close(b.done)
	}
}
