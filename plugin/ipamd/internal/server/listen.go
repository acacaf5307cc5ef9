package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// Listen listens on a unix socket that only its owner may open (0600). It replaces a socket that a killed process left;
// if somebody answers on the socket, it returns an error.
//
// The socket appears under its name only with the right permissions. Closing the listener removes it.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("socket %s: another process answers on it", path)
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		listener.Close()
		os.Remove(temporary)
		return nil, fmt.Errorf("socket: %w", err)
	}
	return socket{listener, path}, nil
}

type socket struct {
	*net.UnixListener
	path string
}

func (s socket) Close() error {
	return errors.Join(s.UnixListener.Close(), os.Remove(s.path))
}

// Peers contains the users who may connect. It checks the credentials that the kernel has of the other end (unix(7),
// SO_PEERCRED), since the socket's permissions do not help if its directory is shared with a container.
type Peers struct {
	UIDs []uint32
	// Refused is called with the user of each refused connection; nil means that nothing is called.
	Refused func(uid uint32)
}

// ClientHandshake returns an error: only servers use these credentials.
func (p Peers) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer credentials work for servers only")
}

// ServerHandshake returns an error if the user of the other end may not connect.
func (p Peers) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("want a unix socket, got %s", conn.LocalAddr().Network())
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return nil, nil, fmt.Errorf("peer credentials: %w", err)
	}
	if !slices.Contains(p.UIDs, cred.Uid) {
		if p.Refused != nil {
			p.Refused(cred.Uid)
		}
		return nil, nil, fmt.Errorf("user %d of process %d may not connect", cred.Uid, cred.Pid)
	}
	return conn, peer{}, nil
}

// Info describes the credentials to gRPC.
func (p Peers) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

// Clone returns p itself.
func (p Peers) Clone() credentials.TransportCredentials { return p }

// OverrideServerName does nothing.
func (p Peers) OverrideServerName(string) error { return nil }

type peer struct{}

func (peer) AuthType() string { return "peercred" }
