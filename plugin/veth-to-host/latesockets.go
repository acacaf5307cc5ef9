package main

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
)

// lateSockets are nf_tables sockets that are closed when a call has done everything else. After a transaction that
// removed something, closing the socket waits until RCU readers are done (nft_rcv_nl_event in
// net/netfilter/nf_tables_api.c), some ten milliseconds. The kernel begins to wait when the transaction ends, and
// removing a link takes as long, so a socket that is closed late waits for nothing.
type lateSockets struct{ conns []*nftables.Conn }

// open opens a socket in the current network namespace, or in the one that an option names. The connection must not be
// used after a transaction on it failed, since the kernel's other answers to it are still to be read.
func (l *lateSockets) open(opts ...nftables.ConnOption) (*nftables.Conn, error) {
	conn, err := nftables.New(append(opts, nftables.AsLasting())...)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	l.conns = append(l.conns, conn)
	return conn, nil
}

func (l *lateSockets) Close() error {
	var errs []error
	for _, conn := range l.conns {
		errs = append(errs, conn.CloseLasting())
	}
	return errors.Join(errs...)
}
