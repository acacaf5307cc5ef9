package agent

import (
	"errors"
	"os"

	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// InstallStubs puts the stub plugins on the node, in stub.Dir.
func (s *Server) InstallStubs(_ None, _ *None) error {
	// The interpreter of a stub is this process's program, with the argument that made it an agent.
	if len(os.Args) != 3 {
		return errors.New("stub plugins: this agent was not started by one word and a configuration")
	}
	return stub.Install(stub.Dir, os.Args[1])
}

// StubRecords lists the calls that stubs logged in a directory.
func (s *Server) StubRecords(dir string, records *[]stub.Record) error {
	found, err := stub.Records(dir)
	// The list is never nil: the client takes null for a reply without result and error (net/rpc/jsonrpc).
	*records = append([]stub.Record{}, found...)
	return err
}
