package conflist

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// placeholders are the values of one node.
type placeholders struct {
	name  string
	index int // from 1, so that a subnet's or address's number can be derived from it
	ip    netip.Addr
}

// sampleNode returns the values that are used while no node is known.
func sampleNode() placeholders {
	return placeholders{name: "node", index: 1, ip: netip.AddrFrom4([4]byte{192, 0, 2, 1})}
}

var placeholderForm = regexp.MustCompile(`\$\{NODE_(NAME|INDEX|IP)\}`)

// substitute replaces `${NODE_NAME}`, `${NODE_INDEX}` and `${NODE_IP}` in the text, in whatever JSON value they are.
func (p passage) substitute(node placeholders) passage {
	values := map[string]string{
		"${NODE_NAME}":  node.name,
		"${NODE_INDEX}": strconv.Itoa(node.index),
		"${NODE_IP}":    node.ip.String(),
	}
	return p.replace(placeholderForm.FindAllIndex(p.text, -1), func(old string) string { return values[old] })
}

// templateForm matches templates that a program should have filled in: those of Helm and Go, Jinja, the shell, and the
// capitals between double underscores of Calico's and Flannel's installers.
var templateForm = regexp.MustCompile(
	`\{\{[^\n]*?\}\}|\{%[^\n]*?%\}|\$\{[^}"\n]*\}?|\$[A-Za-z_][A-Za-z0-9_]*|\b__[A-Z][A-Z0-9_]*__`)

// rejectTemplates reports every template of the text.
func (d *document) rejectTemplates() {
	for _, at := range templateForm.FindAllIndex(d.text, -1) {
		d.rejectTemplate(at[0], string(d.text[at[0]:at[1]]))
	}
}

func (d *document) rejectTemplate(offset int, found string) {
	at := &value{offset: offset}
	switch {
	case strings.HasPrefix(found, "${NODE_"):
		d.reject(at, "no placeholder %q; write ${NODE_NAME}, ${NODE_INDEX} or ${NODE_IP}", found)
	case found[0] == '$':
		d.reject(at, "%q is a template that was not rendered; write its value, or one of cnitest's own placeholders: "+
			"${NODE_NAME}, ${NODE_INDEX}, ${NODE_IP}", found)
	default:
		d.reject(at, "%q is a template that was not rendered; render the file first, or write its value", found)
	}
}

// checkTemplates looks for templates in the strings of a valid document. In the value of a key that is read they are
// mistakes; elsewhere they may belong to the plugin's own syntax.
func (d *document) checkTemplates() {
	var walk func(v *value, known bool)
	walk = func(v *value, known bool) {
		if s, ok := v.scalar.(string); ok {
			found := templateForm.FindString(s)
			switch {
			case found == "":
			case known, strings.HasPrefix(found, "${NODE_"):
				d.rejectTemplate(v.offset, found)
				d.templates = append(d.templates, v.offset)
			default:
				d.warn(v, "%q looks like a template that was not rendered; the plugin gets it as it is", found)
			}
		}
		for _, key := range v.keys {
			walk(v.fields[key], known || v.fields[key].known)
		}
		for _, item := range v.items {
			walk(item, known)
		}
	}
	walk(d.root, false)
}
