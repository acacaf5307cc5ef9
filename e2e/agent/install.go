package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// These are the values of InstallArgs.How.
const (
	// InstallRenamed writes each program beside the one that it replaces and renames it, as careful installers do.
	InstallRenamed = "rename"
	// InstallCopied writes each program over the one that it replaces, as `cp -f` does: one that runs is removed first.
	InstallCopied = "copy"
	// InstallHalf leaves off in the middle of each program.
	InstallHalf = "half"
)

// InstallArgs say which programs replace others.
type InstallArgs struct {
	// From is the directory with the new programs, To the one in which they are replaced. Names are the programs; empty
	// means all of From.
	From  string   `json:"from"`
	To    string   `json:"to"`
	Names []string `json:"names"`
	How   string   `json:"how"`
}

// Install replaces programs. What changes in the directory does not count as changed by a plugin from then on.
func (s *Server) Install(args InstallArgs, _ *None) error {
	s.mu.Lock()
	if !slices.Contains(s.installed, args.To) {
		s.installed = append(s.installed, args.To)
	}
	s.mu.Unlock()
	names := args.Names
	if len(names) == 0 {
		entries, err := os.ReadDir(args.From)
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		for _, e := range entries {
			if info, err := os.Stat(filepath.Join(args.From, e.Name())); err == nil && info.Mode().IsRegular() {
				names = append(names, e.Name())
			}
		}
	}
	if err := os.MkdirAll(args.To, 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for _, name := range names {
		if err := install(filepath.Join(args.From, name), filepath.Join(args.To, name), args.How); err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
	}
	return nil
}

func install(from, to, how string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	switch how {
	case InstallRenamed:
		fresh := to + ".new"
		return errors.Join(os.WriteFile(fresh, data, 0o755), os.Rename(fresh, to)) //nolint:gosec // a program
	case InstallHalf:
		data = data[:len(data)/2]
	case InstallCopied:
	default:
		return fmt.Errorf("unknown way %q", how)
	}
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755) //nolint:gosec // a program
	if errors.Is(err, unix.ETXTBSY) {
		if err := os.Remove(to); err != nil {
			return err
		}
		file, err = os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755) //nolint:gosec // a program
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(file, bytes.NewReader(data))
	return errors.Join(err, file.Close())
}

// Install replaces programs.
func (c *Client) Install(ctx context.Context, args InstallArgs) error {
	return tell(ctx, c, "Install", args)
}
