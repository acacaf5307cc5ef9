package report

import (
	"cmp"
	"fmt"
	"slices"
)

// drawing is a picture of the lab: a trunk on the left, with the machines below each other on its right, so that it
// fits on a phone.
type drawing struct {
	Width, Height int
	// Top and Trunk are the ends of the trunk.
	Top, Trunk int
	Network    []string
	Boxes      []box
	Alt        string
}

// box is a machine.
type box struct {
	X, Y, Width, Height int
	Name                string
	Lines               []boxLine
	// From is where the cable begins; Cable is its height.
	From, Cable int
	Node        bool
}

type boxLine struct {
	Y    int
	Text string
}

// These are the measures of the picture, in pixels.
const (
	drawingWidth = 358
	trunkX       = 14
	boxX         = 44
	lineHeight   = 17
	boxGap       = 12
	// letters is the number of characters in a line of a box of full width.
	letters = 40
)

func (r *Report) drawing() *drawing {
	if r.Lab == nil {
		return nil
	}
	kind := "the underlay: one network on which all of them are"
	if r.Lab.Cloud {
		kind = "the cloud's network: host/router leads each packet"
	}
	d := &drawing{Width: drawingWidth, Network: append([]string{kind}, r.Lab.Networks...)}
	d.Height = (1+len(d.Network))*lineHeight - 4
	d.Top = d.Height
	for _, n := range r.Lab.Nodes {
		var lines []string
		for _, a := range n.Addresses {
			lines = append(lines, n.Uplink+"  "+a)
		}
		pods := "pods"
		if n.Pods > 0 {
			pods = fmt.Sprintf("up to %d pods", n.Pods)
		}
		d.add(box{Name: n.Name, Node: true}, append(lines, pods+" by "+r.Chain()), "")
	}
	hosts := slices.Clone(r.Lab.Hosts)
	// A machine behind another one hangs below it.
	slices.SortStableFunc(hosts, func(a, b LabHost) int {
		key := func(h LabHost) string { return cmp.Or(h.Behind, h.Name) + h.Behind }
		return cmp.Compare(key(a), key(b))
	})
	for _, h := range hosts {
		d.add(box{Name: h.Name}, h.Addresses, h.Behind)
	}
	d.Alt = fmt.Sprintf("%d nodes with pods, and %d hosts without the plugins", len(r.Lab.Nodes), len(hosts))
	d.Height += 2 // the frame of the last box
	return d
}

// add puts a box below the others.
func (d *drawing) add(b box, lines []string, behind string) {
	b.X, b.Y, b.From = boxX, d.Height+boxGap, trunkX
	b.Cable = b.Y + lineHeight
	if i := slices.IndexFunc(d.Boxes, func(other box) bool { return other.Name == behind }); behind != "" && i >= 0 {
		b.X += boxX
		b.From = -d.Boxes[i].Y - d.Boxes[i].Height
	} else {
		d.Trunk = b.Cable
	}
	b.Width = d.Width - b.X - 2
	room := letters - (b.X-boxX)/8
	for i, text := range lines {
		if letters := []rune(text); len(letters) > room {
			text = string(letters[:room-1]) + "…"
		}
		b.Lines = append(b.Lines, boxLine{Y: b.Y + (i+2)*lineHeight + 2, Text: text})
	}
	b.Height = (1+len(lines))*lineHeight + 12
	d.Height = b.Y + b.Height
	d.Boxes = append(d.Boxes, b)
}

// Path returns the cable of a box, from the trunk or from the machine above.
func (b box) Path() string {
	if b.From < 0 {
		return fmt.Sprintf("M%d %dV%dH%d", boxX+14, -b.From, b.Cable, b.X)
	}
	return fmt.Sprintf("M%d %dH%d", b.From, b.Cable, b.X)
}
