package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/cnitest/cnitest/e2e/conflist"
)

// initFiles has the templates. Their delimiters are << and >>, since a workflow contains the usual ones. ¶
//
//go:embed init
var initFiles embed.FS

// project contains what the templates know about a plugin's repository.
type project struct {
	// Type is the plugin's type.
	Type string
	// Conflist and Expected are paths below the repository's directory. Network is the name of one of several networks
	// in Conflist; empty if it has only one.
	Conflist, Expected, Network string
	// Go means that the plugin is a Go module.
	Go bool
	// Version is the version of cnitest for go run, Ref the one for a workflow.
	Version, Ref string
}

func newInitCommand() *cobra.Command {
	var p project
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write the files with which a plugin's repository is tested, in a terminal and on GitHub",
		Long: `Init writes files into DIR (default: the current directory) that test a plugin with cnitest, each
with comments that say what to do next:

  net.d/10-TYPE.conflist          an example; with --conflist your own is used instead
  net.d/10-TYPE.target.yaml       what each node has besides the plugins, such as a daemon
  net.d/10-TYPE.expected.yaml     what is known not to pass, and why; the rest must pass
  cnitest.mk                      make -f cnitest.mk cnitest; or include it in your Makefile
  .github/workflows/cnitest.yml   the same on GitHub, with the report as the summary of the run

Files that exist are not changed, so that it may be called again.`,
		Example: `  cnitest init                                   in the repository of the plugin
  cnitest init --type mynet ../mynet
  cnitest init --conflist deploy/10-mynet.conflist
  cnitest init --conflist deploy/net-attach-def.yaml --network lan`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("init: want one directory, got %q too", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.write(append(args, ".")[0], cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&p.Type, "type", "", "the plugin's type, as conflists name it (default the name of DIR)")
	cmd.Flags().StringVar(&p.Conflist, "conflist", "",
		"path of your conflist or NetworkAttachmentDefinition, below DIR (default an example is written)")
	cmd.Flags().StringVar(&p.Network, "network", "",
		"which network of a file with several NetworkAttachmentDefinitions")
	return cmd
}

// write makes the files in dir and prints what it did.
func (p project) write(dir string, out io.Writer) error {
	if err := p.complete(dir); err != nil {
		return err
	}
	base := strings.TrimSuffix(p.Conflist, filepath.Ext(p.Conflist))
	p.Expected = base + ".expected.yaml"
	for _, f := range []struct{ template, path string }{
		{"plugin.conflist", p.Conflist},
		{"target.yaml", base + targetSuffix},
		{"expected.yaml", p.Expected},
		{"cnitest.mk", "cnitest.mk"},
		{"workflow.yml", ".github/workflows/cnitest.yml"},
	} {
		said := "wrote"
		err := p.writeFile(f.template, filepath.Join(dir, f.path))
		switch {
		case errors.Is(err, os.ErrExist):
			said = "left "
		case err != nil:
			return fmt.Errorf("init: %w", err)
		}
		fmt.Fprintf(out, "%s %s\n", said, filepath.Join(dir, f.path))
	}
	fmt.Fprintf(out, "next: build the plugins of %s into %s, then: make -f cnitest.mk cnitest\n", p.Conflist,
		filepath.Join(dir, "bin"))
	return nil
}

// typeForm is the form of a type: the name of a file.
var typeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// complete determines values that the flags do not set.
func (p *project) complete(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("init: %s is not a directory", dir)
	}
	if p.Conflist != "" {
		if !filepath.IsLocal(p.Conflist) {
			return fmt.Errorf("init: --conflist %q: want a path below %s", p.Conflist, dir)
		}
		list, err := conflist.LoadNetwork(filepath.Join(dir, p.Conflist), p.Network)
		if err != nil {
			return err
		}
		if p.Type == "" {
			p.Type = list.Plugins[0].Type
		}
	}
	if p.Network != "" && p.Conflist == "" {
		return errors.New("init: --network without --conflist: name the file that has it")
	}
	if p.Type == "" {
		whole, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		p.Type = filepath.Base(whole)
	}
	if !typeForm.MatchString(p.Type) {
		return fmt.Errorf("init: plugin type %q: want the name of its binary; say it with --type", p.Type)
	}
	if p.Conflist == "" {
		p.Conflist = "net.d/10-" + p.Type + ".conflist"
	}
	_, err = os.Stat(filepath.Join(dir, "go.mod"))
	p.Go = err == nil
	p.Version, p.Ref = "latest", "main"
	if released.MatchString(version()) {
		p.Version, p.Ref = version(), version()
	}
	return nil
}

// released is the form of a version with a tag.
var released = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)

// writeFile makes a file from a template. Its error is os.ErrExist if the file exists.
func (p *project) writeFile(name, path string) error {
	text, err := template.New(name).Delims("<<", ">>").ParseFS(initFiles, "init/"+name)
	if err != nil {
		return err
	}
	var content bytes.Buffer
	if err := text.Execute(&content, p); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(content.Bytes())
	return errors.Join(err, file.Close())
}
