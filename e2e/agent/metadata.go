package agent

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cnitest/cnitest/e2e/metadata"
)

// MetadataArgs describe the data of the metadata service of the node's cloud.
type MetadataArgs struct {
	Options  metadata.Options  `json:"options"`
	Instance metadata.Instance `json:"instance"`
}

// ServeMetadata starts the metadata service at its addresses, of which the node must have the IPv4 one, or replaces its
// data. Options count only in the first call. The service ends with the agent.
func (s *Server) ServeMetadata(args MetadataArgs, _ *None) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.metadata != nil {
		s.metadata.Set(args.Instance)
		return nil
	}
	listener, err := net.Listen("tcp4", metadata.Address+":80")
	if err != nil {
		return fmt.Errorf("metadata service: %w", err)
	}
	listeners := []net.Listener{listener}
	// A kernel without IPv6, or a node without the address, has the service for IPv4 alone.
	if listener, err := net.Listen("tcp6", "["+metadata.Address6+"]:80"); err == nil {
		listeners = append(listeners, listener)
	}
	s.metadata = metadata.NewService(args.Options)
	s.metadata.Set(args.Instance)
	server := &http.Server{Handler: s.metadata, ReadHeaderTimeout: 10 * time.Second}
	for _, listener := range listeners {
		go func() { _ = server.Serve(listener) }()
	}
	return nil
}
