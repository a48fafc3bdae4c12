package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	v1beta1 "k8s.io/kubelet/config/v1beta1"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	conversion "k8s.io/kubernetes/pkg/kubelet/apis/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// mergeFiles lays the user's KubeletConfiguration files over kc: first the one
// named with kubelet-arg config=, then the drop-ins in lexical order. Fields
// that a file does not name keep their value; lists and maps follow the rules
// of a JSON merge patch, as upstream's --config-dir does.
func mergeFiles(kc *kubeletconfig.KubeletConfiguration, file, dropIns string) (*kubeletconfig.KubeletConfiguration, error) {
	files, err := dropInFiles(dropIns)
	if err != nil {
		return nil, err
	}
	if file != "" {
		files = slices.Insert(files, 0, file)
	}
	if len(files) == 0 {
		return kc, nil
	}
	versioned := &v1beta1.KubeletConfiguration{}
	if err := conversion.Convert_config_KubeletConfiguration_To_v1beta1_KubeletConfiguration(kc, versioned, nil); err != nil {
		return nil, fmt.Errorf("converting the kubelet's configuration: %w", err)
	}
	doc, err := json.Marshal(versioned)
	if err != nil {
		return nil, fmt.Errorf("encoding the kubelet's configuration: %w", err)
	}
	for _, f := range files {
		if doc, err = mergeFile(doc, f); err != nil {
			return nil, err
		}
	}
	merged := &v1beta1.KubeletConfiguration{}
	if err := json.Unmarshal(doc, merged); err != nil {
		return nil, fmt.Errorf("the kubelet's merged configuration: %w", err)
	}
	conversion.SetDefaults_KubeletConfiguration(merged)
	out := &kubeletconfig.KubeletConfiguration{}
	if err := conversion.Convert_v1beta1_KubeletConfiguration_To_config_KubeletConfiguration(merged, out, nil); err != nil {
		return nil, fmt.Errorf("converting the kubelet's merged configuration: %w", err)
	}
	return out, nil
}

func mergeFile(doc []byte, file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a kubelet configuration file: %w", err)
	}
	// Strictly first, so that a misspelt field is told and not dropped.
	probe := &v1beta1.KubeletConfiguration{}
	if err := yaml.UnmarshalStrict(data, probe); err != nil {
		return nil, fmt.Errorf("kubelet configuration file %s: %w", file, err)
	}
	if probe.Kind != "KubeletConfiguration" || probe.APIVersion != v1beta1.SchemeGroupVersion.String() {
		return nil, fmt.Errorf("kubelet configuration file %s: wants apiVersion %s and kind KubeletConfiguration, has %q and %q",
			file, v1beta1.SchemeGroupVersion, probe.APIVersion, probe.Kind)
	}
	patch, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("kubelet configuration file %s: %w", file, err)
	}
	merged, err := jsonpatch.MergePatch(doc, patch)
	if err != nil {
		return nil, fmt.Errorf("merging the kubelet configuration file %s: %w", file, err)
	}
	return merged, nil
}

func dropInFiles(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the kubelet's drop-in directory: %w", err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".conf" {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}
