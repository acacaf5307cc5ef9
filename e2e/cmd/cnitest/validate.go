package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/expectation"
	"github.com/cnitest/cnitest/e2e/scenario"
	"github.com/cnitest/cnitest/e2e/target"
)

func newValidateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "validate FILE…",
		Short: "Check networks (*.conflist, *.conf, *.json, NetworkAttachmentDefinitions), scenarios, targets and " +
			"expectations without running anything",
		Long: `Validate reads all files and lists every mistake as FILE:LINE: what; how to mend. It exits 2 if there
is one. Warnings are about mistakes in a conflist that runtimes accept.`,
		Example: "  cnitest validate /etc/cni/net.d/10-mynet.conflist\n  cnitest validate scenarios/*.yaml",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("validate: want at least one file; see cnitest validate --help")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			wrong := 0
			for _, file := range args {
				if err := validate(cmd.OutOrStdout(), file); err != nil {
					// The form is that of compilers, so that editors find the place.
					fmt.Fprintln(cmd.ErrOrStderr(), err)
					wrong++
				}
			}
			if wrong > 0 {
				return fmt.Errorf("validate: %d of %d files wrong", wrong, len(args))
			}
			return nil
		},
	}
}

func validate(out io.Writer, file string) error {
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		return fmt.Errorf("%s: is a directory; name the files in it", file)
	}
	switch ext := filepath.Ext(file); {
	case slices.Contains([]string{".yaml", ".yml"}, ext):
		return validateYAML(out, file)
	case slices.Contains([]string{".conflist", ".conf", ".json"}, ext):
		return validateConflist(out, file)
	}
	return fmt.Errorf("%s: neither a scenario (*.yaml) nor a conflist (*.conflist, *.conf, *.json) by its name", file)
}

func validateYAML(out io.Writer, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := data
	// A file that PowerShell wrote is UTF-16, which YAML allows.
	if utf8, _, err := transform.Bytes(unicode.BOMOverride(transform.Nop), data); err == nil {
		text = utf8
	}
	if conflist.IsDefinitions(text) || isKubernetes.Match(text) {
		return validateConflist(out, file)
	}
	if isTarget.Match(text) {
		return validateTarget(out, file, data)
	}
	if isExpectation.Match(text) {
		return validateExpectation(out, file, data)
	}
	s, err := scenario.Parse(file, data)
	if err != nil {
		return err
	}
	known, err := contract.IDs()
	if err != nil {
		return err
	}
	if err := s.CheckCovers(known); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: valid scenario of %d steps; needs %s\n", file, len(s.Steps), s.Needs())
	return err
}

// isTarget, isExpectation and isKubernetes find the kind of a file, even if it has mistakes. Every object of Kubernetes
// has metadata, and no file of cnitest.
var (
	isTarget      = regexp.MustCompile(`(?m)^kind: *` + target.Kind + `\b`)
	isExpectation = regexp.MustCompile(`(?m)^kind: *` + expectation.Kind + `\b`)
	isKubernetes  = regexp.MustCompile(`(?m)^metadata:`)
)

func validateExpectation(out io.Writer, file string, data []byte) error {
	e, err := expectation.Parse(file, data)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: valid expectation: %d known deviations\n", file, len(e.Deviations))
	return err
}

func validateTarget(out io.Writer, file string, data []byte) error {
	t, err := target.Parse(file, data)
	if err != nil {
		return err
	}
	daemon, cloud := "no daemon", "no cloud"
	if t.Daemon != nil {
		daemon = "daemon " + t.Daemon.Name
	}
	if c := t.Cloud; c != nil {
		cloud = fmt.Sprintf("a cloud, %d ENIs on each node", c.Interfaces())
	}
	api := ""
	if k := t.Kubernetes; k != nil {
		api = fmt.Sprintf(", a Kubernetes API with the definitions of %d files", len(k.CRDs))
	}
	_, err = fmt.Fprintf(out, "%s: valid target: %d commands of setup, %s, %s%s\n", file, len(t.Setup), daemon, cloud,
		api)
	return err
}

func validateConflist(out io.Writer, file string) error {
	all, err := conflist.LoadAll(file)
	if err != nil {
		return err
	}
	for _, f := range all {
		for _, w := range f.Warnings {
			fmt.Fprintln(out, "warning: "+w)
		}
		what := "conflist"
		if f.Definition != "" {
			what = "NetworkAttachmentDefinition " + f.Definition + ", network"
		}
		fmt.Fprintf(out, "%s: valid %s %q of CNI %s: %s\n", file, what, f.Network, f.CNIVersion, strings.Join(f.Types(),
			", "))
	}
	return nil
}
