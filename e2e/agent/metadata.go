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

// ServeMetadata starts the metadata service at its address, which the node must have, or replaces its data. Options
// count only in the first call. The service ends with the agent.
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
	s.metadata = metadata.NewService(args.Options)
	s.metadata.Set(args.Instance)
	server := &http.Server{Handler: s.metadata, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return nil
}
