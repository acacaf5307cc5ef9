package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// extra is a file beside the binary, with its place in a package.
type extra struct{ source, place string }

// completions are the places where shells look for completions, by the shell.
var completions = map[string]string{
	"bash": "/usr/share/bash-completion/completions/cnitest",
	"zsh":  "/usr/share/zsh/site-functions/_cnitest",
	"fish": "/usr/share/fish/vendor_completions.d/cnitest.fish",
}

// extras has the binary for this machine write man pages and completions.
func (r *release) extras() ([]extra, func(), error) {
	if !r.has(runtime.GOARCH) {
		return nil, nil, fmt.Errorf("want %s, which runs here and writes the man pages", r.binary(runtime.GOARCH))
	}
	tool, err := filepath.Abs(r.binary(runtime.GOARCH))
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "cnitest-release-")
	if err != nil {
		return nil, nil, err
	}
	cleanUp := func() { _ = os.RemoveAll(dir) }
	files, err := r.write(tool, dir)
	if err != nil {
		cleanUp()
		return nil, nil, err
	}
	return files, cleanUp, nil
}

func (r *release) write(tool, dir string) ([]extra, error) {
	if _, err := output(tool, "man", dir, "--date", r.when.Format(time.DateOnly)); err != nil {
		return nil, err
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		return nil, err
	}
	var files []extra
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		var small bytes.Buffer
		zip, err := gzip.NewWriterLevel(&small, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := zip.Write(text); err != nil {
			return nil, err
		}
		if err := zip.Close(); err != nil {
			return nil, err
		}
		if err := os.WriteFile(page+".gz", small.Bytes(), 0o644); err != nil {
			return nil, err
		}
		files = append(files, extra{page + ".gz", "/usr/share/man/man1/" + filepath.Base(page) + ".gz"})
	}
	for shell, place := range completions {
		script, err := output(tool, "completion", shell)
		if err != nil {
			return nil, err
		}
		source := filepath.Join(dir, shell)
		if err := os.WriteFile(source, script, 0o644); err != nil {
			return nil, err
		}
		files = append(files, extra{source, place})
	}
	return files, nil
}

// output returns what a program prints.
func output(tool string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(tool, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
