package agent

import (
	"context"
	"errors"

	"github.com/cnitest/cnitest/e2e/lab/event"
)

// RememberNode records what belongs to the node itself: each event restores that. It is called before anybody adds
// something.
func (s *Server) RememberNode(config event.Config, _ *None) error {
	return inNamespace("", func() (err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.node, err = event.Remember(config)
		return err
	})
}

// Event makes an event happen on the node, which RememberNode must know.
func (s *Server) Event(name string, _ *None) error {
	return inNamespace("", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.node == nil {
			return errors.New("nobody said what belongs to the node")
		}
		return s.node.Happen(name)
	})
}

// UndoEvents gives the node back what it had before the events.
func (s *Server) UndoEvents(None, *None) error {
	return inNamespace("", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.node == nil { // it was rebooted
			return nil
		}
		return s.node.Undo()
	})
}

// RememberNode records what belongs to the node itself.
func (c *Client) RememberNode(ctx context.Context, config event.Config) error {
	return tell(ctx, c, "RememberNode", config)
}

// Event makes an event happen on the node.
func (c *Client) Event(ctx context.Context, name string) error { return tell(ctx, c, "Event", name) }

// UndoEvents gives the node back what it had before the events.
func (c *Client) UndoEvents(ctx context.Context) error { return tell(ctx, c, "UndoEvents", None{}) }
