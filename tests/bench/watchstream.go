package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// watchStream is an answer to a watch that is not decoded: with a hundred of
// them decoding would cost this program more than the system that it measures,
// and the time of the machine is shared.
type watchStream struct {
	io.ReadCloser
	frames bufio.SplitFunc
}

// errWatchEnded says that the server has ended a watch.
var errWatchEnded = errors.New("the watch ended")

// maxFrame bounds one event; they have less than a KiB.
const maxFrame = 1 << 20

func watchRaw(ctx context.Context, config *rest.Config, contentType, since string) (*watchStream, error) {
	client, err := newClient(config, contentType)
	if err != nil {
		return nil, err
	}
	body, err := client.CoreV1().RESTClient().Get().Namespace(metav1.NamespaceDefault).Resource("configmaps").
		VersionedParams(&metav1.ListOptions{Watch: true, LabelSelector: watchedLabel, ResourceVersion: since}, scheme.ParameterCodec).
		Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("watching: %w", err)
	}
	w := &watchStream{ReadCloser: body, frames: bufio.ScanLines}
	if contentType == protobuf {
		w.frames = lengthDelimited
	}
	return w, nil
}

// each calls f with the number of each object that an event is about, until
// the stream ends, which is an error.
func (w *watchStream) each(f func(i int) error) error {
	in := bufio.NewScanner(w)
	in.Buffer(make([]byte, 0, 4096), maxFrame)
	in.Split(w.frames)
	for in.Scan() {
		i, ok := watchedNumber(in.Bytes())
		if !ok {
			return fmt.Errorf("an event about something else: %.200q", in.Bytes())
		}
		if err := f(i); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return errWatchEnded
}

// lengthDelimited splits frames that four bytes with their length stand before.
func lengthDelimited(data []byte, atEOF bool) (advance int, token []byte, err error) {
	const head = 4
	if len(data) >= head {
		if end := head + int(binary.BigEndian.Uint32(data)); len(data) >= end {
			return end, data[head:end], nil
		}
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

const (
	watchedPrefix = "watched-"
	watchedDigits = 6
)

func watchedName(i int) string { return fmt.Sprintf("%s%0*d", watchedPrefix, watchedDigits, i) }

// watchedNumber finds the name of an object in an event, in either form.
func watchedNumber(event []byte) (int, bool) {
	_, rest, found := bytes.Cut(event, []byte(watchedPrefix))
	if !found || len(rest) < watchedDigits {
		return 0, false
	}
	n, err := strconv.Atoi(string(rest[:watchedDigits]))
	return n, err == nil
}
