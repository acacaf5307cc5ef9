package trackrecord

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// projects are the repositories whose releases are the versions.
func projects() map[string]string {
	return map[string]string{"plugins": "containernetworking/plugins", "amazon": "aws/amazon-vpc-cni-k8s"}
}

// Figure says how many defects the suite would have caught, as Markdown for README.md of the repository.
func (r *Record) Figure() string {
	caught, missed, untestable := r.count("")
	text := fmt.Sprintf("Of %d defects that users of other projects' plugins met, and that were mended there, cnitest "+
		"would have\ncaught %d: %d by checks that it had before, and %d by general ones that it owes to these defects."+
		" Another %d\ncannot be tested here. "+
		"[Which, and how each is caught](e2e/trackrecord/README.md).\n\n", caught+missed, caught, caught-r.learned(),
		r.learned(), untestable)
	return text + r.kinds()
}

// kinds is a table of what users see of defects, with how many are caught and some of those.
func (r *Record) kinds() string {
	var b strings.Builder
	table(&b, "what users see", "caught", "for example, with what catches it (`cnitest explain ID`)")
	for _, kind := range []struct{ name, seen string }{
		{"add", "pods do not start"},
		{"traffic", "pods run, and packets get lost or go astray"},
		{"del", "pods do not end, or something of them stays"},
		{"addresses", "addresses get lost, or two pods have one"},
		{"check", "CHECK fails for a pod that is well, or passes for one that is not"},
		{"result", "the result or error says something else than what is so"},
		{"mistakes", "mistakes in a configuration end in a crash or harm"},
	} {
		caught, missed, _ := r.count(kind.name)
		var examples []string
		for _, d := range r.Defects {
			if d.Caught != nil && d.Kind == kind.name && len(examples) < 3 {
				examples = append(examples, fmt.Sprintf("%s (`%s`)", d.Name, d.Caught.ID))
			}
		}
		row(&b, kind.seen, fmt.Sprintf("%d of %d", caught, caught+missed), strings.Join(examples, ", "))
	}
	return b.String()
}

// count counts the defects of a kind; an empty one means all.
func (r *Record) count(kind string) (caught, missed, untestable int) {
	for _, d := range r.Defects {
		if kind != "" && d.Kind != kind {
			continue
		}
		switch {
		case d.Caught != nil:
			caught++
		case d.Missed != nil:
			missed++
		default:
			untestable++
		}
	}
	return caught, missed, untestable
}

// learned is the number of defects that are caught by checks which were added or made stronger because of them.
func (r *Record) learned() int {
	n := 0
	for _, d := range r.Defects {
		if d.Caught != nil && d.Caught.Learned {
			n++
		}
	}
	return n
}

// Markdown is the table: what is caught, what is not, and what cannot be tested.
func (r *Record) Markdown() string {
	caught, missed, untestable := r.count("")
	var b strings.Builder
	fmt.Fprintf(&b, "%d defects: %d caught, %d not caught, %d that cannot be tested here. %d are caught by general "+
		"checks that were\nadded or made stronger because of them (learned).\n\n## Caught\n\n", len(r.Defects), caught,
		missed, untestable, r.learned())
	table(&b, "defect", "plugin", "until", "since", "caught by", "needs", "source")
	for _, d := range r.sorted() {
		if c := d.Caught; c != nil {
			by := fmt.Sprintf("`%s` on [%s](net.d/%[2]s.conflist)%s", c.ID, c.Conflist, c.unlike(&d))
			row(&b, append(d.cells(), by, c.needs(), d.links())...)
		}
	}
	b.WriteString("\n## Not caught\n\n")
	table(&b, "defect", "plugin", "until", "since", "why not", "what would catch it", "source")
	for _, d := range r.sorted() {
		if m := d.Missed; m != nil {
			row(&b, append(d.cells(), m.Why, m.Would, d.links())...)
		}
	}
	b.WriteString("\n## Cannot be tested here\n\n")
	table(&b, "defect", "plugin", "until", "since", "why", "source")
	for _, d := range r.sorted() {
		if d.Untestable != "" {
			row(&b, append(d.cells(), d.Untestable, d.links())...)
		}
	}
	return b.String()
}

// sorted returns the rows by project and plugin, those of one plugin in the order of the file.
func (r *Record) sorted() []Defect {
	return slices.SortedStableFunc(slices.Values(r.Defects), func(a, b Defect) int {
		return cmp.Or(-cmp.Compare(a.Of, b.Of), cmp.Compare(a.Plugin, b.Plugin))
	})
}

// cells are those with which each row begins.
func (d *Defect) cells() []string {
	return []string{fmt.Sprintf("**%s**: %s", d.Name, d.What), d.Plugin, d.version(d.Bad), d.version(d.Fixed)}
}

// version links a version to its release.
func (d *Defect) version(v string) string {
	return fmt.Sprintf("[%s](https://github.com/%s/releases/tag/%[1]s)", v, projects()[d.Of])
}

// links are those of the sources.
func (d *Defect) links() string {
	var all []string
	for _, source := range d.Sources {
		if repository, number, ok := strings.Cut(source, "#"); ok {
			all = append(all, fmt.Sprintf("[#%s](https://github.com/%s/issues/%[1]s)", number, repository))
		} else if repository, hash, ok := strings.Cut(source, "@"); ok {
			all = append(all, fmt.Sprintf("[%.8s](https://github.com/%s/commit/%[1]s)", hash, repository))
		}
	}
	return strings.Join(all, ", ")
}

// unlike says what of a check its row does not show.
func (c *Check) unlike(d *Defect) string {
	var more []string
	if c.Of != "" && c.Of != "chain" && c.Of != d.Plugin {
		more = append(more, "the result of "+c.Of)
	}
	if c.Learned {
		more = append(more, "learned")
	}
	if c.Green != "" {
		more = append(more, "passes on "+c.Green)
	}
	if more == nil {
		return ""
	}
	return " (" + strings.Join(more, ", ") + ")"
}

func (c *Check) needs() string {
	var all []string
	if c.Program != "" {
		all = append(all, "the program "+c.Program)
	}
	if c.Kernel != "" {
		all = append(all, "a kernel with "+c.Kernel)
	}
	return strings.Join(all, ", ")
}

func table(b *strings.Builder, columns ...string) {
	row(b, columns...)
	fmt.Fprintln(b, strings.Repeat("|---", len(columns))+"|")
}

func row(b *strings.Builder, cells ...string) {
	fmt.Fprintln(b, "| "+strings.Join(cells, " | ")+" |")
}
