package state

import (
	"context"
	"sync"
	"time"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// Saver puts a state where it survives the process.
type Saver interface {
	Save(datastore.State) error
}

// Source gives a state and its version, as datastore.Store does.
type Source interface {
	Snapshot() (datastore.State, uint64)
}

// Write is what is known about a finished write.
type Write struct {
	Duration time.Duration
	Callers  int // how many waited for it
	Err      error
}

// Options has what Commits needs.
type Options struct {
	Source Source
	Saver  Saver
	// Observe is told of each write; nil means nobody. It must not call back.
	Observe func(Write)
}

// Commits makes versions of a source durable, many with one write: while one is under way the callers that come next
// wait for it, and then share the write after it. It is safe for concurrent use.
type Commits struct {
	opts Options

	mu      sync.Mutex
	durable uint64
	writing bool
	next    *batch // not begun yet
}

// batch is a write and those who wait for it.
type batch struct {
	done    chan struct{}
	callers int
	err     error
}

// NewCommits returns Commits of which version 0 is durable.
func NewCommits(opts Options) *Commits {
	if opts.Observe == nil {
		opts.Observe = func(Write) {}
	}
	return &Commits{opts: opts}
}

// Commit returns once version is durable, or with the error of the write that was to make it so; the state in memory is
// ahead of the disk then, and any later Commit tries to write all of it.
//
// If ctx ends first, the version may become durable nevertheless.
func (c *Commits) Commit(ctx context.Context, version uint64) error {
	c.mu.Lock()
	if version <= c.durable {
		c.mu.Unlock()
		return nil
	}
	// A write under way may have taken its snapshot before this version, so the next one is waited for.
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

// write writes as long as somebody waits for it.
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
