package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Writer writes one snapshot. It keeps nothing of what it has written.
type Writer struct {
	out    io.Writer
	digest hash.Hash
	packed *zstd.Encoder
	buffer []byte
	keys   int64
	bytes  int64
}

// NewWriter begins a snapshot.
func NewWriter(out io.Writer) (*Writer, error) {
	w := &Writer{digest: sha256.New()}
	w.out = io.MultiWriter(out, w.digest)
	if _, err := io.WriteString(w.out, magic); err != nil {
		return nil, err
	}
	// One goroutine and a small window: it runs beside a cluster, on machines
	// with little memory.
	var err error
	w.packed, err = zstd.NewWriter(w.out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	return w, err
}

// Add writes one key with its value and revisions.
func (w *Writer) Add(kv *mvccpb.KeyValue) error {
	size := kv.Size()
	w.buffer = binary.AppendUvarint(w.buffer[:0], uint64(size))
	head := len(w.buffer)
	if need := head + size; cap(w.buffer) < need {
		w.buffer = append(make([]byte, 0, need), w.buffer...)
	}
	w.buffer = w.buffer[:head+size]
	if _, err := kv.MarshalToSizedBuffer(w.buffer[head:]); err != nil {
		return fmt.Errorf("encoding %s: %w", kv.Key, err)
	}
	w.keys++
	w.bytes += int64(len(kv.Key) + len(kv.Value))
	_, err := w.packed.Write(w.buffer)
	return err
}

// Close ends the snapshot with its metadata, in which it counts the keys, and
// gives them complete. It does not close the file below.
func (w *Writer) Close(m Metadata) (Metadata, error) {
	if err := w.packed.Close(); err != nil {
		return m, err
	}
	m.Keys, m.Bytes = w.keys, w.bytes
	text, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	if len(text) > maxMetadata {
		return m, errors.New("the metadata is too large")
	}
	text = binary.BigEndian.AppendUint32(text, uint32(len(text)))
	if _, err := w.out.Write(text); err != nil {
		return m, err
	}
	_, err = w.out.Write(append(w.digest.Sum(nil), ending...))
	return m, err
}

// Abandon gives back what a Writer holds that will not be closed.
func (w *Writer) Abandon() { w.packed.Reset(nil) }
